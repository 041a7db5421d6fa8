// An EK certificate that verifies has a path of certificates that were given, each signed by the next, valid
// and a CA where it must be, to one of the roots; whatever else is given is refused by its class. Leaf,
// certificates that came with it, intermediates and roots are all of the input, beside the vendors' real
// ones where it wants them.
#include <algorithm>
#include <fstream>
#include <iterator>

#include <openssl/err.h>
#include <openssl/x509.h>

#include "attestation/base/reader.h"
#include "attestation/evidence/endorsement.h"

namespace {

using namespace sallyport;
using namespace sallyport::evidence;

TpmRoots pinned() {
  TpmRoots out;
  for (const char* name : {"vendor-roots.pem", "vendor-intermediates.pem", "google.pem"}) {
    std::ifstream file{std::string{SALLYPORT_TPM_ROOTS} + name, std::ios::binary};
    const Bytes pem{std::istreambuf_iterator<char>{file}, {}};
    const auto bundle = split_bundle(pem);
    SP_ASSERT(bundle.has_value());
    std::ranges::copy(bundle->roots, std::back_inserter(out.roots));
    std::ranges::copy(bundle->intermediates, std::back_inserter(out.intermediates));
  }
  return out;
}

struct Input {
  Bytes leaf;
  std::vector<Bytes> chain;
  TpmRoots roots;
  UnixMillis at;
};

// The first octet says which roots and which day; then certificates with their sizes, and of each but the
// leaf whose it is.
Result<Input> parse(ByteView bytes) {
  static const TpmRoots vendors = pinned();
  constexpr std::uint64_t kDays[] = {1'800'000'000'000, 1'600'000'000'000, 1'400'000'000'000,
                                     4'000'000'000'000};
  Reader in{bytes};
  SP_TRY(const std::uint8_t flags, in.u8());
  Input out;
  if ((flags & 1) != 0) out.roots = vendors;
  out.roots.expired_accepted = (flags & 2) != 0;
  out.at = UnixMillis{kDays[flags >> 2 & 3]};
  SP_TRY(const ByteView leaf, in.prefixed16(0xFFFF));
  out.leaf = to_bytes(leaf);
  while (in.remaining() != 0) {
    SP_TRY(const std::uint8_t whose, in.u8());
    SP_TRY(const ByteView der, in.prefixed16(0xFFFF));
    if (whose % 3 == 0) {
      out.chain.push_back(to_bytes(der));
      continue;
    }
    SP_TRY(crypto::Certificate parsed, crypto::Certificate::parse_der(der));
    (whose % 3 == 1 ? out.roots.intermediates : out.roots.roots).push_back(std::move(parsed));
  }
  return out;
}

bool signed_by(const crypto::Certificate& one, const crypto::Certificate& issuer) {
  EVP_PKEY* const key = X509_get0_pubkey(issuer.get());
  const bool holds = key != nullptr && X509_verify(one.get(), key) == 1;
  ERR_clear_error();
  return holds;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = parse({data, size});
  if (!input.has_value()) return 0;
  const auto verified = verify_ek_certificate(input->leaf, input->chain, input->roots, input->at);
  if (!verified.has_value()) {
    const Error& error = verified.error();
    SP_ASSERT(error.code == Code::kMalformed || error.code == Code::kUnverified ||
              error.code == Code::kStale);
    SP_ASSERT(!error.what.empty());
    return 0;
  }
  const auto& path = verified->path;
  SP_ASSERT(!path.empty() && path.front() == verified->certificate);
  SP_ASSERT(std::ranges::find(input->roots.roots, path.back()) != input->roots.roots.end());
  const auto expired = std::ranges::find(verified->oddities, EkOddity::kExpired);
  SP_ASSERT(expired == verified->oddities.end() || input->roots.expired_accepted);
  const UnixMillis at = expired == verified->oddities.end() ? input->at : verified->certificate.not_before();
  for (std::size_t i = 0; i < path.size(); ++i) {
    SP_ASSERT(path[i].not_before() <= at && at <= path[i].not_after());
    SP_ASSERT(path[i].is_ca() == (i != 0));
    if (i + 1 == path.size()) break;
    SP_ASSERT(signed_by(path[i], path[i + 1]));
    SP_ASSERT(X509_NAME_cmp(X509_get_issuer_name(path[i].get()), X509_get_subject_name(path[i + 1].get())) ==
              0);
  }
  const auto key = path.front().public_key();
  SP_ASSERT(key.has_value() && *key == verified->key);
  SP_ASSERT(!verified->tpm.manufacturer.empty() && !verified->tpm.model.empty());
  return 0;
}
