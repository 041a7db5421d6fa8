#include <algorithm>
#include <iostream>

#include "attestation/base/hex.h"
#include "attestation/evidence/endorsement.h"
#include "attestation/record/canonical_json.h"
#include "attestation/record/entry.h"
#include "client/evidence/commands.h"
#include "client/evidence/ek_certificate.h"
#include "client/evidence/inputs.h"
#include "client/terminal/files.h"
#include "client/terminal/render.h"

namespace sallyport::client::evidence_tools {
namespace {

namespace po = boost::program_options;
using crypto::Certificate;
using evidence::ClaimedEkCertificate;
using record::json::Value;

constexpr std::size_t kMaxChainFileBytes = 64u << 10;

void verify_ek_flags(po::options_description& flags) {
  flags.add_options()("file", po::value<std::string>(),
                      "the certificate, as read from NV, as DER, or as PEM")(
      "roots", po::value<std::string>(), "the vendors' CAs: the policy's bundle (PEM)")(
      "chain", po::value<std::vector<std::string>>()->composing(),
      "CAs that came with the certificate, as DER one after the other, or as PEM; may be repeated")(
      "at", po::value<std::string>(), "judge as of this time (UTC), not of now")(
      "expired-accepted", "as a policy with expired_ek = \"accept\" does");
}

// The CAs of a file, as the NV indices from 0x01C00100 on hold them, or as PEM.
Status read_chain(const std::string& path, std::vector<Bytes>& out) {
  SP_TRY(const Bytes bytes, read_whole_file(path, kMaxChainFileBytes));
  if (is_pem(bytes)) {
    SP_TRY(const std::vector<Certificate> pem, certificates_of(path, bytes));
    for (const Certificate& certificate : pem) out.push_back(certificate.der());
    return Done{};
  }
  auto chain = evidence::split_chain(bytes);
  if (!chain.has_value()) return of_file(path, chain.error());
  std::ranges::move(*chain, std::back_inserter(out));
  return Done{};
}

// The vendors' CAs, in the form that a policy takes.
Result<evidence::TpmRoots> read_roots(const std::string& path) {
  SP_TRY(const Bytes bytes,
         read_whole_file(path, record::max_evidence_bytes(record::EvidenceType::kTpmRoots)));
  if (!is_pem(bytes)) {
    const std::string look = looks_like(bytes);
    return Error{
        Code::kMalformed, Reason::kFile,
        path + " is no PEM" + (look.empty() ? "" : ", and looks like " + look) +
            ": as in a policy, PEM is expected. One certificate in DER: openssl x509 -inform der -in " +
            path + " -out roots.pem"};
  }
  auto roots = evidence::split_bundle(bytes);
  if (!roots.has_value()) return Error{Code::kMalformed, Reason::kFile, path + ": " + roots.error().what};
  return roots;
}

Value json_of(const Certificate& certificate) {
  return Value::object({{"issuer", certificate.issuer()},
                        {"not_after", iso_utc(certificate.not_after())},
                        {"not_before", iso_utc(certificate.not_before())},
                        {"sha256", to_hex(certificate.fingerprint())},
                        {"subject", certificate.subject()}});
}

// print_judged tells what the certificate says, and the path from it to a root; none was looked for without
// roots.
void print_judged(const ClaimedEkCertificate& ek, const std::vector<Certificate>& path, UnixMillis at,
                  bool json) {
  if (json) {
    std::vector<record::json::Member> members = ek_members(ek);
    Value::Array shown;
    for (const Certificate& certificate : path) shown.push_back(json_of(certificate));
    members.push_back({"at", iso_utc(at)});
    members.push_back({"chain_verified", Value{!path.empty()}});
    members.push_back({"path", std::move(shown)});
    return print_json(Value::object(std::move(members)));
  }
  print_ek(ek);
  std::cout << "judged     as of " << utc(at) << "\n";
  for (std::size_t i = 1; i < path.size(); ++i)
    std::cout << (i == 1 ? "path       " : "           ") << (i + 1 == path.size() ? "root " : "CA   ")
              << printable(path[i].subject()) << ", until " << utc(path[i].not_after()) << "\n";
  if (path.empty())
    std::cout
        << "chain      NOT VERIFIED: anybody can write such a certificate. Give the vendors' CAs, such as "
           "the\n           policy's bundle: --roots BUNDLE\n";
  std::cout << std::flush;
}

// Whether the certificate alone is valid: a CA over it, where there are roots, verify_ek_certificate sees to.
Status check_time(const Certificate& certificate, UnixMillis at) {
  if (certificate.not_before() <= at && at < certificate.not_after()) return Done{};
  return Error{Code::kStale, Reason::kEkExpired,
               "it is valid " + utc(certificate.not_before()) + " – " + utc(certificate.not_after()) +
                   ", and judged as of " + utc(at)};
}

Result<int> run_verify_ek(const Arguments& arguments) {
  if (!arguments.has("file"))
    return usage("sallyport evidence verify-ek CERTIFICATE [--roots BUNDLE [--chain FILE]…]");
  const bool with_roots = arguments.has("roots");
  if (!with_roots && (arguments.has("chain") || arguments.has("expired-accepted")))
    return usage("--chain and --expired-accepted are of a chain, which wants --roots");
  UnixMillis at = now();
  if (arguments.has("at")) {
    SP_TRY(at, parse_utc(arguments.text("at")));
  }
  const std::string path = arguments.text("file");
  SP_TRY(Bytes bytes, read_whole_file(path, 4 * evidence::kMaxEkCertificateBytes));
  SP_TRY(const Bytes as_read, as_read_of(path, std::move(bytes)));
  auto claimed = evidence::read_ek_certificate(as_read);
  if (!claimed.has_value()) return of_file(path, claimed.error());
  if (claimed->refused) return *claimed->refused;
  if (!with_roots) {
    SP_CHECK(check_time(claimed->certificate, at));
    print_judged(*claimed, {}, at, arguments.json);
    return reason_exit_code(Reason::kEkChain);
  }
  SP_TRY(evidence::TpmRoots roots, read_roots(arguments.text("roots")));
  roots.expired_accepted = arguments.has("expired-accepted");
  std::vector<Bytes> chain;
  if (arguments.has("chain"))
    for (const std::string& file : arguments.values["chain"].as<std::vector<std::string>>())
      SP_CHECK(read_chain(file, chain));
  SP_TRY(evidence::VerifiedEkCertificate ek, evidence::verify_ek_certificate(as_read, chain, roots, at));
  claimed->oddities = std::move(ek.oddities);
  print_judged(*claimed, ek.path, at, arguments.json);
  return 0;
}

}  // namespace

Command verify_ek_command() {
  return {
      "evidence verify-ek",
      "evidence verify-ek CERTIFICATE [--roots BUNDLE [--chain FILE]… [--expired-accepted]] [--at TIME]",
      "whether an endorsement key's certificate leads to a vendor",
      "Offline. Judges the certificate as an enrolment would, against the vendors' CAs of BUNDLE: those that "
      "are self-issued are roots, the others are between. Without --roots only what the certificate says of "
      "itself is judged, which anybody can write: the exit code is 5 at best. That this machine's TPM holds "
      "the key, only an enrolment can show.\n\n"
      "  sudo tpm2_nvread 0x01c00002 > ek.bin\n"
      "  sallyport evidence verify-ek ek.bin --roots vendors.pem\n\n"
      "ek/chain names the CA that the bundle lacks. On-die CAs (Intel) are in the TPM itself, from NV "
      "0x01c00100 on: give what is there with --chain.\n",
      verify_ek_flags,
      {"file"},
      run_verify_ek};
}

}  // namespace sallyport::client::evidence_tools
