#include <iostream>

#include "attestation/base/hex.h"
#include "attestation/evidence/endorsement.h"
#include "attestation/record/canonical_json.h"
#include "attestation/record/entry.h"
#include "client/evidence/commands.h"
#include "client/terminal/files.h"
#include "client/terminal/render.h"

namespace sallyport::client::evidence_tools {
namespace {

namespace po = boost::program_options;
using crypto::Certificate;
using evidence::VerifiedEkCertificate;
using record::json::Value;

constexpr std::size_t kMaxChainFileBytes = 64u << 10;

Error usage(std::string what) {
  return Error{Code::kMalformed, Reason::kUsage, std::move(what)};
}

void verify_ek_flags(po::options_description& flags) {
  flags.add_options()("file", po::value<std::string>(),
                      "the certificate, as read from NV, as DER, or as PEM")(
      "roots", po::value<std::string>(), "the vendors' CAs: the policy's bundle (PEM)")(
      "chain", po::value<std::vector<std::string>>()->composing(),
      "CAs that came with the certificate, as DER one after the other, or as PEM; may be repeated")(
      "at", po::value<std::string>(), "judge as of this time (UTC), not of now")(
      "expired-accepted", "as a policy with expired_ek = \"accept\" does");
}

bool is_pem(ByteView bytes) {
  return as_text(bytes).find("-----BEGIN") != std::string_view::npos;
}

// read_certificate gives the bytes that are judged: what is in a PEM file, or the file.
Result<Bytes> read_certificate(const std::string& path) {
  SP_TRY(Bytes bytes, read_whole_file(path, 4 * evidence::kMaxEkCertificateBytes));
  if (!is_pem(bytes)) return bytes;
  SP_TRY(const std::vector<Certificate> pem, crypto::parse_pem_bundle(bytes));
  if (pem.size() != 1)
    return usage(printable(path) + " holds more than one certificate; use --chain for CAs");
  return pem.front().der();
}

// The CAs of a file, as the NV indices from 0x01C00100 on hold them, or as PEM.
Status read_chain(const std::string& path, std::vector<Bytes>& out) {
  SP_TRY(const Bytes bytes, read_whole_file(path, kMaxChainFileBytes));
  if (is_pem(bytes)) {
    SP_TRY(const std::vector<Certificate> pem, crypto::parse_pem_bundle(bytes));
    for (const Certificate& certificate : pem) out.push_back(certificate.der());
    return Done{};
  }
  SP_TRY(const std::vector<Bytes> chain, evidence::split_chain(bytes));
  out.insert(out.end(), chain.begin(), chain.end());
  return Done{};
}

Value json_of(const Certificate& certificate) {
  return Value::object({{"issuer", certificate.issuer()},
                        {"not_after", iso_utc(certificate.not_after())},
                        {"not_before", iso_utc(certificate.not_before())},
                        {"sha256", to_hex(certificate.fingerprint())},
                        {"subject", certificate.subject()}});
}

Value json_of(const VerifiedEkCertificate& ek) {
  Value::Array path, oddities;
  for (const Certificate& certificate : ek.path) path.push_back(json_of(certificate));
  for (const evidence::EkOddity oddity : ek.oddities) oddities.push_back(std::string{sentence(oddity)});
  return Value::object({{"device", to_hex(ek.key.id())},
                        {"key", std::string{crypto::algorithm_name(ek.key.algorithm())}},
                        {"manufacturer", evidence::manufacturer_text(ek.tpm.manufacturer)},
                        {"manufacturer_id", ek.tpm.manufacturer},
                        {"model", ek.tpm.model},
                        {"not_after", iso_utc(ek.certificate.not_after())},
                        {"not_before", iso_utc(ek.certificate.not_before())},
                        {"oddities", std::move(oddities)},
                        {"path", std::move(path)},
                        {"version", ek.tpm.version}});
}

void print_text(const VerifiedEkCertificate& ek, UnixMillis at) {
  std::cout << "TPM        " << printable(evidence::manufacturer_text(ek.tpm.manufacturer)) << " "
            << printable(ek.tpm.model);
  if (!ek.tpm.version.empty()) std::cout << ", version " << printable(ek.tpm.version);
  std::cout << "\nkey        " << crypto::algorithm_name(ek.key.algorithm()) << " · device "
            << to_hex(ek.key.id()).substr(0, 16) << "\nvalid      " << utc(ek.certificate.not_before())
            << " – " << utc(ek.certificate.not_after()) << "; judged as of " << utc(at) << "\n";
  for (std::size_t i = 1; i < ek.path.size(); ++i)
    std::cout << (i == 1 ? "path       " : "           ") << (i + 1 == ek.path.size() ? "root " : "CA   ")
              << printable(ek.path[i].subject()) << ", until " << utc(ek.path[i].not_after()) << "\n";
  for (const evidence::EkOddity oddity : ek.oddities) std::cout << "odd        " << sentence(oddity) << "\n";
  std::cout << std::flush;
}

Result<int> run_verify_ek(const Arguments& arguments) {
  if (!arguments.has("file") || !arguments.has("roots"))
    return usage("sallyport evidence verify-ek CERTIFICATE --roots BUNDLE [--chain FILE]…");
  SP_TRY(const Bytes certificate, read_certificate(arguments.text("file")));
  SP_TRY(const Bytes bundle, read_whole_file(arguments.text("roots"),
                                             record::max_evidence_bytes(record::EvidenceType::kTpmRoots)));
  SP_TRY(evidence::TpmRoots roots, evidence::split_bundle(bundle));
  roots.expired_accepted = arguments.has("expired-accepted");
  std::vector<Bytes> chain;
  if (arguments.has("chain"))
    for (const std::string& path : arguments.values["chain"].as<std::vector<std::string>>())
      SP_CHECK(read_chain(path, chain));
  UnixMillis at = now();
  if (arguments.has("at")) {
    SP_TRY(at, parse_utc(arguments.text("at")));
  }
  SP_TRY(const VerifiedEkCertificate ek, evidence::verify_ek_certificate(certificate, chain, roots, at));
  if (arguments.json)
    std::cout << as_text(record::json::encode_canonical(json_of(ek))) << std::endl;
  else
    print_text(ek, at);
  return 0;
}

}  // namespace

Command verify_ek_command() {
  return {
      "evidence verify-ek",
      "evidence verify-ek CERTIFICATE --roots BUNDLE [--chain FILE]… [--at TIME] [--expired-accepted]",
      "whether an endorsement key's certificate leads to a vendor",
      "Offline. Judges the certificate as an enrolment would, against the vendors' CAs of BUNDLE: those that "
      "are self-issued are roots, the others are between. That this machine's TPM holds the key, only an "
      "enrolment can show.\n\n"
      "  sudo tpm2_nvread 0x01c00002 > ek.bin\n"
      "  sallyport evidence verify-ek ek.bin --roots vendors.pem\n\n"
      "ek/chain names the CA that the bundle lacks. On-die CAs (Intel) are in the TPM itself, from NV "
      "0x01c00100 on: give what is there with --chain.\n",
      verify_ek_flags,
      {"file"},
      run_verify_ek};
}

}  // namespace sallyport::client::evidence_tools
