#include "client/evidence/ek_certificate.h"

#include <iostream>
#include <utility>

#include "attestation/base/hex.h"
#include "client/terminal/render.h"

namespace sallyport::client::evidence_tools {
namespace {

using crypto::Certificate;
using evidence::ClaimedEkCertificate;
using record::json::Member;
using record::json::Value;

// What people call the object identifiers that EK certificates have.
constexpr std::pair<std::string_view, std::string_view> kNames[] = {
    {"1.2.840.113549.1.1.1", "rsa"},
    {"1.2.840.113549.1.1.7", "rsa, RSAES-OAEP only"},
    {"1.2.840.10045.2.1", "ec"},
    {"2.23.133.8.1", "tcg-kp-EKCertificate"},
    {"2.23.133.8.2", "platform certificate"},
    {"2.23.133.8.3", "attestation key"},
    {"2.23.133.2.1", "manufacturer"},
    {"2.23.133.2.2", "model"},
    {"2.23.133.2.3", "version"}};

std::string named(const std::string& oid) {
  for (const auto& [of, name] : kNames)
    if (of == oid) return std::string{name};
  return oid;
}

// key_name gives the key's algorithm: "rsa2048", or of one that is not supported what kind it is of.
std::string key_name(const ClaimedEkCertificate& ek) {
  return ek.key ? std::string{crypto::algorithm_name(ek.key->algorithm())}
                : named(ek.certificate.key_algorithm_oid());
}

std::vector<std::string> usages_of(const Certificate& certificate) {
  const crypto::KeyUsage usage = certificate.key_usage();
  std::vector<std::string> out;
  if (usage.digital_signature) out.emplace_back("digitalSignature");
  if (usage.key_encipherment) out.emplace_back("keyEncipherment");
  if (usage.key_agreement) out.emplace_back("keyAgreement");
  if (usage.key_cert_sign) out.emplace_back("keyCertSign");
  return out;
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out.empty() ? "none" : out;
}

void line(std::string label, const std::string& text) {
  label.resize(11, ' ');
  std::cout << label << printable(text) << "\n";
}

Value::Array array_of(const std::vector<std::string>& words) {
  Value::Array out;
  for (const std::string& word : words) out.push_back(word);
  return out;
}

}  // namespace

bool is_pem(ByteView bytes) {
  return as_text(bytes).find("-----BEGIN") != std::string_view::npos;
}

Result<std::vector<Certificate>> certificates_of(const std::string& path, ByteView pem) {
  auto parsed = crypto::parse_pem_bundle(pem);
  if (parsed.has_value()) return parsed;
  return Error{Code::kMalformed, Reason::kFile, path + ": " + parsed.error().what};
}

Result<Bytes> as_read_of(const std::string& path, Bytes bytes) {
  if (!is_pem(bytes)) return bytes;
  SP_TRY(const std::vector<Certificate> pem, certificates_of(path, bytes));
  if (pem.size() != 1)
    return Error{Code::kMalformed, Reason::kFile,
                 path + " holds " + std::to_string(pem.size()) +
                     " certificates, and one is looked at: the first of a chain is the key's; CAs go with "
                     "--roots or --chain of sallyport evidence verify-ek"};
  return pem.front().der();
}

void print_ek(const ClaimedEkCertificate& ek) {
  const Certificate& certificate = ek.certificate;
  if (!ek.tpm.manufacturer.empty() || !ek.tpm.model.empty())
    line("TPM", evidence::manufacturer_text(ek.tpm.manufacturer) + " " + ek.tpm.model +
                    (ek.tpm.version.empty() ? "" : ", version " + ek.tpm.version));
  line("key", key_name(ek) + ", " + std::to_string(certificate.key_bits()) + " bits" +
                  (ek.key ? " · device " + to_hex(ek.key->id()).substr(0, 16) : ": not supported"));
  line("subject", certificate.subject_is_empty() ? "none" : certificate.subject());
  line("issuer", certificate.issuer());
  std::vector<std::string> names;
  for (const auto& [oid, value] : certificate.directory_names()) names.push_back(named(oid) + " " + value);
  line("SAN", joined(names) + (certificate.has_critical_subject_alternative_name() ? " · critical" : ""));
  std::vector<std::string> extended;
  for (const std::string& oid : certificate.extended_key_usage())
    extended.push_back(named(oid) == oid ? oid : oid + " (" + named(oid) + ")");
  line("usage", joined(usages_of(certificate)) + " · EKU " + joined(extended));
  line("valid", utc(certificate.not_before()) + " – " + utc(certificate.not_after()));
  for (const evidence::EkOddity oddity : ek.oddities) line("odd", std::string{sentence(oddity)});
}

std::vector<Member> ek_members(const ClaimedEkCertificate& ek) {
  const Certificate& certificate = ek.certificate;
  Value::Array oddities, names;
  for (const evidence::EkOddity oddity : ek.oddities) oddities.push_back(std::string{sentence(oddity)});
  for (const auto& [oid, value] : certificate.directory_names())
    names.push_back(Value::object({{"oid", oid}, {"value", value}}));
  std::vector<Member> members{{"eku", array_of(certificate.extended_key_usage())},
                              {"issuer", certificate.issuer()},
                              {"key", key_name(ek)},
                              {"key_bits", std::uint64_t{certificate.key_bits()}},
                              {"key_usage", array_of(usages_of(certificate))},
                              {"manufacturer", evidence::manufacturer_text(ek.tpm.manufacturer)},
                              {"manufacturer_id", ek.tpm.manufacturer},
                              {"model", ek.tpm.model},
                              {"not_after", iso_utc(certificate.not_after())},
                              {"not_before", iso_utc(certificate.not_before())},
                              {"oddities", std::move(oddities)},
                              {"san", std::move(names)},
                              {"san_critical", Value{certificate.has_critical_subject_alternative_name()}},
                              {"sha256", to_hex(certificate.fingerprint())},
                              {"subject", certificate.subject()},
                              {"version", ek.tpm.version}};
  if (ek.key) members.push_back({"device", to_hex(ek.key->id())});
  return members;
}

}  // namespace sallyport::client::evidence_tools
