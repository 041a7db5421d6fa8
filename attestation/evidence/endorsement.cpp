#include "attestation/evidence/endorsement.h"

#include <algorithm>
#include <optional>

#include "attestation/base/hex.h"
#include "attestation/evidence/templates.h"

namespace sallyport::evidence {
namespace {

constexpr std::string_view kOidEkCertificate = "2.23.133.8.1";  // tcg-kp-EKCertificate
constexpr std::string_view kOidManufacturer = "2.23.133.2.1";
constexpr std::string_view kOidModel = "2.23.133.2.2";
constexpr std::string_view kOidVersion = "2.23.133.2.3";
constexpr std::string_view kOidRsaesOaep = "1.2.840.113549.1.1.7";
// Google's GCE instance information: zone, project and machine.
constexpr const char* kOidGoogleInstance = "1.3.6.1.4.1.11129.2.1.21";
constexpr std::size_t kMaxChain = 8;

Error malformed(const char* what) {
  return Error{Code::kMalformed, Reason::kEkCertificate, what};
}
Error not_ek(const char* what) {
  return Error{Code::kUnverified, Reason::kEkCertificate, what};
}

// der_size gives the size of the outermost SEQUENCE, whose length takes two bytes in any real certificate.
std::optional<std::size_t> der_size(ByteView bytes) {
  if (bytes.size() < 4 || bytes[0] != 0x30 || bytes[1] != 0x82) return std::nullopt;
  const std::size_t size = 4 + (std::size_t{bytes[2]} << 8 | bytes[3]);
  if (size > bytes.size()) return std::nullopt;
  return size;
}

struct Area {
  ByteView der;
  bool header = false, padding = false;
};

Result<Area> cut_to_der(ByteView bytes) {
  // The header of TPM 1.2 tools: TCG_PCCLIENT_STORED_CERT, its size field counting the two bytes after it.
  std::optional<std::size_t> stated;
  if (bytes.size() > 7 && bytes[0] == 0x10 && bytes[1] == 0x01 && bytes[2] == 0x00) {
    if (bytes[5] != 0x10 || bytes[6] != 0x02) return malformed("unknown header before the EK certificate");
    stated = (std::size_t{bytes[3]} << 8 | bytes[4]);
    bytes = bytes.subspan(7);
  }
  const auto size = der_size(bytes);
  if (!size) return malformed("no certificate in the EK certificate's NV area");
  if (stated && *stated != *size + 2)
    return malformed("header that states another size than the EK certificate's");
  const ByteView padding = bytes.subspan(*size);
  if (!std::ranges::all_of(padding, [&](std::uint8_t byte) { return byte == padding[0]; }))
    return malformed("bytes after the EK certificate that are no padding");
  return Area{bytes.first(*size), stated.has_value(), !padding.empty()};
}

Result<crypto::Certificate> parse_area(const Area& area) {
  auto certificate = crypto::Certificate::parse_der(area.der);
  if (!certificate.has_value()) {
    Error error = std::move(certificate).error();
    error.reason = Reason::kEkCertificate;
    return error;
  }
  return certificate;
}

// Google's private CA names the machine in the subject and in the instance extension, and no TPM in a SAN.
bool is_google_instance(const crypto::Certificate& certificate) {
  return certificate.directory_names().empty() && certificate.has_extension(kOidGoogleInstance);
}

// NamedTpm is what a certificate calls its TPM, and whether it does so twice.
struct NamedTpm {
  TpmModel tpm;
  bool twice = false;
};

NamedTpm named_tpm(const crypto::Certificate& certificate) {
  if (is_google_instance(certificate)) return {{"id:474F4F47", "vTPM", {}}, false};
  NamedTpm out;
  const auto set = [&out](std::string& field, const std::string& value) {
    if (!field.empty() || value.empty()) out.twice = true;
    if (field.empty()) field = value;
  };
  for (const auto& [oid, value] : certificate.directory_names()) {
    if (oid == kOidManufacturer)
      set(out.tpm.manufacturer, value);
    else if (oid == kOidModel)
      set(out.tpm.model, value);
    else if (oid == kOidVersion)
      set(out.tpm.version, value);
  }
  return out;
}

Status check_named(const crypto::Certificate& certificate, const NamedTpm& named) {
  if (named.twice) return not_ek("EK certificate that names its TPM twice");
  const TpmModel& tpm = named.tpm;
  if (!is_google_instance(certificate) &&
      (tpm.manufacturer.empty() || tpm.model.empty() || tpm.version.empty()))
    return not_ek("EK certificate without the TPM's manufacturer, model and version");
  return Done{};
}

Status check_form(const crypto::Certificate& certificate, crypto::KeyAlgorithm algorithm) {
  if (certificate.version() != 3) return not_ek("EK certificate that is not X.509 v3");
  if (certificate.is_ca()) return not_ek("EK certificate that is a CA's");
  const crypto::KeyUsage usage = certificate.key_usage();
  if (usage.key_cert_sign) return not_ek("EK certificate that may sign certificates");
  const bool rsa = algorithm == crypto::KeyAlgorithm::kRsa2048;
  if (!usage.present || !(rsa ? usage.key_encipherment : usage.key_agreement))
    // Google's CA, for one, certifies its machines' attestation keys too, with the EKU of endorsement keys.
    return not_ek(usage.digital_signature ? "certificate of a signing key, not of an endorsement key"
                                          : "EK certificate without the key usage of an endorsement key");
  const std::vector<std::string> extended = certificate.extended_key_usage();
  if (certificate.has_extended_key_usage() &&
      std::ranges::find(extended, kOidEkCertificate) == extended.end())
    return not_ek("EK certificate whose extended key usage is another");
  if (certificate.subject_is_empty() && !certificate.has_critical_subject_alternative_name())
    return not_ek("EK certificate without a subject whose alternative name is not critical");
  return Done{};
}

std::vector<EkOddity> oddities_of(const Area& area, const crypto::Certificate& certificate) {
  std::vector<EkOddity> out;
  if (area.header) out.push_back(EkOddity::kHeader);
  if (area.padding) out.push_back(EkOddity::kPadding);
  if (!certificate.names_are_der()) out.push_back(EkOddity::kNotDer);
  if (certificate.has_multi_valued_directory_name()) out.push_back(EkOddity::kMultiValuedName);
  if (!certificate.has_extended_key_usage()) out.push_back(EkOddity::kNoEku);
  if (is_google_instance(certificate)) out.push_back(EkOddity::kGoogleInstance);
  return out;
}

Error unsupported(const crypto::Certificate& certificate) {
  const std::string oid = certificate.key_algorithm_oid();
  return Error{Code::kMalformed, Reason::kEkUnsupported,
               oid == kOidRsaesOaep
                   ? "TPM 1.2-era endorsement key: its certificate limits it to RSAES-OAEP"
                   : "endorsement key of algorithm " + oid + ", or of a size, that is not supported"};
}

}  // namespace

std::string_view sentence(EkOddity oddity) {
  switch (oddity) {
    case EkOddity::kHeader:
      return "It was behind the 7-byte header of TPM 1.2 tools.";
    case EkOddity::kPadding:
      return "Padding that fills its NV index followed it.";
    case EkOddity::kNotDer:
      return "A name in it is not in DER's order.";
    case EkOddity::kMultiValuedName:
      return "It names the TPM in one multi-valued RDN.";
    case EkOddity::kNoEku:
      return "It has no extended key usage.";
    case EkOddity::kGoogleInstance:
      return "It is of a virtual machine at Google: its host vouches for the TPM, and it names no version.";
    case EkOddity::kExpired:
      return "It, or a CA over it, is no longer valid; all of them were when it was issued.";
  }
  return {};
}

Result<crypto::Certificate> parse_ek_certificate(ByteView as_read) {
  if (as_read.size() > kMaxEkCertificateBytes) return malformed("EK certificate longer than its cap");
  SP_TRY(const Area area, cut_to_der(as_read));
  return parse_area(area);
}

Result<ClaimedEkCertificate> read_ek_certificate(ByteView as_read) {
  if (as_read.size() > kMaxEkCertificateBytes) return malformed("EK certificate longer than its cap");
  SP_TRY(const Area area, cut_to_der(as_read));
  SP_TRY(crypto::Certificate certificate, parse_area(area));
  NamedTpm named = named_tpm(certificate);
  std::vector<EkOddity> oddities = oddities_of(area, certificate);
  ClaimedEkCertificate out{std::move(certificate), std::nullopt, {}, std::move(oddities), std::nullopt};
  auto key = out.certificate.public_key();
  if (!key.has_value()) {
    out.refused = unsupported(out.certificate);
  } else {
    out.key = *std::move(key);
    if (const Status form = check_form(out.certificate, out.key->algorithm()); !form.has_value())
      out.refused = form.error();
    else if (const Status is_named = check_named(out.certificate, named); !is_named.has_value())
      out.refused = is_named.error();
  }
  out.tpm = std::move(named.tpm);
  return out;
}

Result<std::vector<Bytes>> split_chain(ByteView bytes) {
  std::vector<Bytes> out;
  while (!bytes.empty()) {
    const auto size = der_size(bytes);
    if (!size) return malformed("bytes among the certificates of a chain that are none");
    out.push_back(to_bytes(bytes.first(*size)));
    bytes = bytes.subspan(*size);
  }
  return out;
}

std::string manufacturer_text(std::string_view manufacturer) {
  const std::string as_written{manufacturer};
  if (!manufacturer.starts_with("id:")) return as_written;
  std::string digits = as_written.substr(3);
  std::ranges::transform(digits, digits.begin(),
                         [](char c) { return c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c; });
  const auto id = parse_hex_array<4>(digits);
  if (!id.has_value()) return as_written;
  std::string out;
  for (const std::uint8_t byte : *id) {
    const bool filler = byte == 0 || byte == ' ';
    if (!filler && (byte < '!' || byte > '~')) return as_written;
    if (!filler) out += static_cast<char>(byte);
  }
  return out.empty() ? as_written : out;
}

Result<TpmRoots> split_bundle(ByteView pem) {
  SP_TRY(const std::vector<crypto::Certificate> bundle, crypto::parse_pem_bundle(pem));
  TpmRoots out;
  for (const crypto::Certificate& certificate : bundle)
    (certificate.is_self_issued() ? out.roots : out.intermediates).push_back(certificate);
  return out;
}

Result<VerifiedEkCertificate> verify_ek_certificate(ByteView certificate_as_read,
                                                    std::span<const Bytes> chain, const TpmRoots& roots,
                                                    UnixMillis at) {
  SP_TRY(ClaimedEkCertificate claimed, read_ek_certificate(certificate_as_read));
  if (claimed.refused) return *claimed.refused;
  crypto::Certificate& certificate = claimed.certificate;

  if (chain.size() > kMaxChain) return malformed("more certificates with the EK certificate than the cap");
  std::vector<crypto::Certificate> intermediates = roots.intermediates;
  for (const Bytes& der : chain) {
    SP_TRY(crypto::Certificate between, crypto::Certificate::parse_der(der));
    intermediates.push_back(std::move(between));
  }
  auto path = crypto::verify_chain(certificate, intermediates, roots.roots, at);
  bool expired = false;
  if (!path.has_value() && path.error().code == Code::kStale && roots.expired_accepted &&
      certificate.not_before() < at) {
    // A TPM outlives its certificate, and vendors' CAs: they have vouched for it while they could.
    auto as_issued = crypto::verify_chain(certificate, intermediates, roots.roots, certificate.not_before());
    expired = as_issued.has_value();
    if (expired) path = std::move(as_issued);
  }
  if (!path.has_value()) {
    Error error = std::move(path).error();
    error.reason = error.code == Code::kStale ? Reason::kEkExpired : Reason::kEkChain;
    return error;
  }
  if (expired) claimed.oddities.push_back(EkOddity::kExpired);
  return VerifiedEkCertificate{std::move(certificate), *std::move(claimed.key), std::move(claimed.tpm),
                               *std::move(path), std::move(claimed.oddities)};
}

Result<VerifiedEndorsement> verify_endorsement(ByteView certificate_as_read, std::span<const Bytes> chain,
                                               ByteView ek_tpmt_public, const TpmRoots& roots,
                                               UnixMillis at) {
  SP_TRY(VerifiedEkCertificate verified, verify_ek_certificate(certificate_as_read, chain, roots, at));
  SP_TRY(PublicArea ek, parse_public_area(ek_tpmt_public));
  if (std::ranges::find(ek_templates(), ek.form) == ek_templates().end())
    return Error{Code::kMalformed, Reason::kKeyTemplate, "endorsement key that is none of the templates"};
  if (ek.key != verified.key) return not_ek("EK certificate of another key");
  return VerifiedEndorsement{.device = DeviceId{verified.key.id().get()},
                             .ek = std::move(ek),
                             .manufacturer = std::move(verified.tpm.manufacturer),
                             .model = std::move(verified.tpm.model),
                             .version = std::move(verified.tpm.version),
                             .root = verified.path.back().subject(),
                             .oddities = std::move(verified.oddities)};
}

}  // namespace sallyport::evidence
