#include "attestation/tpm/tpm.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <array>
#include <bit>
#include <mutex>
#include <optional>
#include <utility>

#include "attestation/base/reader.h"
#include "attestation/crypto/random.h"
#include "attestation/evidence/attest.h"
#include "attestation/evidence/endorsement.h"
#include "attestation/tpm/command.h"
#include "attestation/tpm/next_step.h"
#include "attestation/tpm/transport.h"

namespace sallyport::tpm {
namespace {

constexpr std::size_t kMaxTpm2b = 4096;
constexpr std::size_t kMaxNvBytes = 16 * 1024, kNvChunkBytes = 512;
constexpr int kQuoteAttempts = 10;
constexpr std::uint16_t kTagHashCheck = 0x8024;

// Where TPMs keep EK certificates (TCG EK Credential Profile 2.x §2.2.1.4), best first; `form` counts
// evidence::ek_templates().
struct EkSlot {
  std::uint32_t nv_index;
  std::size_t form;
};
constexpr std::array kEkSlots = {EkSlot{0x01C00016, 4}, EkSlot{0x01C0000A, 1}, EkSlot{0x01C00014, 3},
                                 EkSlot{0x01C00002, 0}, EkSlot{0x01C00012, 2}};
constexpr std::uint32_t kFirstChainIndex = 0x01C00100, kLastChainIndex = 0x01C001FF;

Error not_understood(Cc command, std::string_view what) {
  return Error{Code::kMalformed, Reason::kTpm, std::string{command_name(command)} + ": " + std::string{what}};
}

// is_away: the TPM could not be asked now, which says nothing about what was asked.
bool is_away(const Error& error) {
  return error.reason == Reason::kTpmBusy || error.reason == Reason::kTpmAbsent;
}

// With a reason of this place for one response code; everything else as the table says.
template <class T>
Result<T> with_reason(Result<T> result, std::uint32_t rc, Code code, Reason reason) {
  if (!result.has_value() && result.error().device_rc != 0 && base_rc(result.error().device_rc) == rc) {
    Error error = result.error();
    error.code = code;
    error.reason = reason;
    return error;
  }
  return result;
}

Result<Loaded> create_primary(Device& device, Handle hierarchy, ByteView in_public, Bytes* out_public) {
  Command command{Cc::kCreatePrimary};
  command.handle(hierarchy).authorize().returns_handle();
  // inSensitive: no authValue, no data; outsideInfo empty; no creation PCRs.
  command.parameters.prefixed16(Writer{}.u16(0).u16(0).bytes()).prefixed16(in_public).u16(0).u32(0);
  SP_TRY(const Response response, device.run(command));
  Loaded loaded{device, response.handle};
  Reader in{response.parameters};
  SP_TRY(const ByteView made, in.prefixed16(kMaxTpm2b));
  SP_TRY(const ByteView creation_data, in.prefixed16(kMaxTpm2b));
  SP_TRY(const ByteView creation_hash, in.prefixed16(64));
  SP_TRY(const ByteView ticket_tag_and_hierarchy, in.raw(6));
  SP_TRY(const ByteView ticket, in.prefixed16(64));
  SP_TRY(const ByteView name, in.prefixed16(66));
  SP_CHECK(in.finish());
  static_cast<void>(creation_data);
  static_cast<void>(creation_hash);
  static_cast<void>(ticket_tag_and_hierarchy);
  static_cast<void>(ticket);
  static_cast<void>(name);  // computed from the public area by whoever needs it
  *out_public = to_bytes(made);
  return loaded;
}

Result<Bytes> save_context(Device& device, Handle handle) {
  Command command{Cc::kContextSave};
  command.handle(handle);
  SP_TRY(const Response response, device.run(command));
  return response.parameters;
}

// The public area of an object, or nothing when there is none with this handle.
Result<Bytes> read_public(Device& device, Handle handle) {
  Command command{Cc::kReadPublic};
  command.handle(handle);
  SP_TRY(const Response response, device.run(command));
  Reader in{response.parameters};
  SP_TRY(const ByteView area, in.prefixed16(kMaxTpm2b));
  SP_TRY(const ByteView name, in.prefixed16(66));
  SP_TRY(const ByteView qualified_name, in.prefixed16(66));
  static_cast<void>(name);
  static_cast<void>(qualified_name);
  SP_CHECK(in.finish());
  return to_bytes(area);
}

Result<std::optional<Handle>> find_persistent(Device& device, ByteView public_area) {
  constexpr Handle kFirst = 0x81010000,
                   kLast = 0x8101FFFF;  // the range of endorsement keys (TCG handle registry)
  SP_TRY(const auto handles, device.handles_from(kFirst));
  for (const Handle handle : handles) {
    if (handle < kFirst || handle > kLast) continue;
    const auto area = read_public(device, handle);
    if (area.has_value() && equal(*area, public_area)) return std::optional{handle};
  }
  return std::optional<Handle>{};
}

Result<std::optional<Bytes>> find_nv(Device& device, std::uint32_t index) {
  constexpr std::uint32_t kOwnerRead = 1U << 17, kAuthRead = 1U << 18;
  Command ask{Cc::kNvReadPublic};
  ask.handle(index);
  const auto answer = device.run(ask);
  if (!answer.has_value()) {
    if (base_rc(answer.error().device_rc) == kRcHandle) return std::optional<Bytes>{};
    return answer.error();
  }
  Reader response{answer->parameters};
  SP_TRY(const ByteView area, response.prefixed16(kMaxTpm2b));
  Reader in{area};
  SP_TRY(const std::uint32_t got_index, in.u32());
  SP_TRY(const std::uint16_t name_alg, in.u16());
  SP_TRY(const std::uint32_t attributes, in.u32());
  SP_TRY(const ByteView policy, in.prefixed16(64));
  SP_TRY(const std::uint16_t size, in.u16());
  SP_CHECK(in.finish());
  static_cast<void>(name_alg);
  static_cast<void>(policy);
  if (got_index != index || size > kMaxNvBytes)
    return not_understood(Cc::kNvReadPublic, "another or a huge index");
  if ((attributes & (kOwnerRead | kAuthRead)) == 0) return std::optional<Bytes>{};

  Bytes out;
  while (out.size() < size) {
    const std::size_t want = std::min<std::size_t>(kNvChunkBytes, size - out.size());
    Command read{Cc::kNvRead};
    read.handle((attributes & kAuthRead) != 0 ? index : kOwner).handle(index).authorize();
    read.parameters.u16(static_cast<std::uint16_t>(want)).u16(static_cast<std::uint16_t>(out.size()));
    SP_TRY(const Response chunk, device.run(read));
    Reader data{chunk.parameters};
    SP_TRY(const ByteView bytes, data.prefixed16(want));
    SP_CHECK(data.finish());
    if (bytes.size() != want) return not_understood(Cc::kNvRead, "another number of bytes");
    out.insert(out.end(), bytes.begin(), bytes.end());
  }
  return std::optional{std::move(out)};
}

// Certificates one after the other, as the chain indices hold them.
std::vector<Bytes> split_certificates(ByteView bytes) {
  std::vector<Bytes> out;
  while (bytes.size() > 4 && bytes[0] == 0x30 && bytes[1] == 0x82) {  // SEQUENCE with a two-byte length
    const std::size_t size = 4 + static_cast<std::size_t>(bytes[2] << 8 | bytes[3]);
    if (size > bytes.size()) break;
    out.push_back(to_bytes(bytes.first(size)));
    bytes = bytes.subspan(size);
  }
  return out;
}

// ECDSA-SHA256 from a TPMT_SIGNATURE, with r and s at their full length: some TPMs leave leading zeros out.
Result<crypto::Signature64> read_ecdsa(Reader& in, Cc command) {
  SP_TRY(const std::uint16_t algorithm, in.u16());
  SP_TRY(const std::uint16_t hash, in.u16());
  if (algorithm != static_cast<std::uint16_t>(evidence::TpmAlg::kEcdsa) || hash != kAlgSha256)
    return not_understood(command, "not an ECDSA-SHA256 signature");
  crypto::Signature64 out{};
  for (const std::size_t end : {32U, 64U}) {
    SP_TRY(const ByteView part, in.prefixed16(32));
    std::copy(part.begin(), part.end(), out.begin() + static_cast<std::ptrdiff_t>(end - part.size()));
  }
  return out;
}

// An attestation with the AK's signature, which is ECDSA or RSASSA.
Result<evidence::SignedAttest> read_signed_attest(const Response& response, Cc command) {
  Reader in{response.parameters};
  SP_TRY(const ByteView attest, in.prefixed16(evidence::kMaxAttestBytes));
  const ByteView rest = in.rest();
  Reader algorithm{rest};
  SP_TRY(const std::uint16_t id, algorithm.u16());
  if (id == static_cast<std::uint16_t>(evidence::TpmAlg::kRsaSsa)) {
    SP_TRY(const evidence::TpmSignature signature, evidence::parse_signature(rest));
    return evidence::SignedAttest{to_bytes(attest), evidence::encode(signature)};
  }
  Reader ecdsa{rest};
  SP_TRY(const crypto::Signature64 signature, read_ecdsa(ecdsa, command));
  SP_CHECK(ecdsa.finish());
  return evidence::SignedAttest{to_bytes(attest), evidence::encode_ecdsa(signature)};
}

struct StartedSession {
  Loaded session;
  ByteArray<32> nonce_tpm;
};
enum class SessionType : std::uint8_t { kHmac = 0, kPolicy = 1 };  // TPM_SE
Result<StartedSession> start_session(Device& device, SessionType type) {
  Command command{Cc::kStartAuthSession};
  command.handle(kNull).handle(kNull).returns_handle();
  // nonceTPM is as long as nonceCaller; no salt; no parameter encryption.
  command.parameters.prefixed16(crypto::random_array<32>())
      .u16(0)
      .u8(static_cast<std::uint8_t>(type))
      .u16(kAlgNull)
      .u16(kAlgSha256);
  SP_TRY(const Response response, device.run(command));
  Loaded session{device, response.handle};
  Reader in{response.parameters};
  SP_TRY(const ByteView nonce, in.prefixed16(32));
  SP_CHECK(in.finish());
  if (nonce.size() != 32) return not_understood(command.code, "a nonce of another size");
  StartedSession out{std::move(session), {}};
  std::copy(nonce.begin(), nonce.end(), out.nonce_tpm.begin());
  return out;
}

Result<StartedSession> start_policy_session(Device& device) {
  return start_session(device, SessionType::kPolicy);
}

// PolicySecret with the endorsement hierarchy's (empty) password: policy A of the TCG's low-range templates.
Status satisfy_ek_policy(Device& device, Handle session) {
  Command command{Cc::kPolicySecret};
  command.handle(kEndorsement).handle(session).authorize();
  command.parameters.u16(0).u16(0).u16(0).u32(0);  // nonceTPM, cpHashA, policyRef, expiration
  SP_TRY(const Response response, device.run(command));
  static_cast<void>(response);  // a ticket, which an expiration of zero leaves empty
  return Done{};
}

Result<SecretBytes> read_secret(Response response, std::size_t max, bool in_point) {
  const auto read = [&]() -> Result<SecretBytes> {
    Reader outer{response.parameters};
    SP_TRY(const ByteView value, outer.prefixed16(kMaxTpm2b));
    SP_CHECK(outer.finish());
    if (!in_point) {
      if (value.size() > max) return Error{Code::kMalformed, Reason::kTpm, "a secret longer than its cap"};
      return SecretBytes{value};
    }
    Reader point{value};
    SP_TRY(const ByteView x, point.prefixed16(max));
    SP_TRY(const ByteView y, point.prefixed16(max));
    SP_CHECK(point.finish());
    static_cast<void>(y);
    SecretBytes padded{max};
    std::copy(x.begin(), x.end(), padded.expose().end() - static_cast<std::ptrdiff_t>(x.size()));
    return padded;
  };
  auto secret = read();
  OPENSSL_cleanse(response.parameters.data(), response.parameters.size());
  return secret;
}

}  // namespace

struct LeaseSession::Abandoned {
  std::mutex mutex;  // guards handles: a LeaseSession may be dropped by another thread
  std::vector<Handle> handles;
};

LeaseSession::LeaseSession(std::shared_ptr<Abandoned> abandoned, std::uint32_t handle,
                           const ByteArray<32>& nonce_tpm, Bytes context)
    : abandoned_(std::move(abandoned)),
      handle_(handle),
      nonce_tpm_(nonce_tpm),
      context_(std::move(context)) {}

LeaseSession& LeaseSession::operator=(LeaseSession&& other) noexcept {
  if (this != &other) {
    abandon();
    abandoned_ = std::move(other.abandoned_);
    handle_ = other.handle_;
    nonce_tpm_ = other.nonce_tpm_;
    context_ = std::move(other.context_);
  }
  return *this;
}

LeaseSession::~LeaseSession() {
  abandon();
}

void LeaseSession::abandon() {
  if (abandoned_ == nullptr) return;
  const std::lock_guard lock{abandoned_->mutex};
  abandoned_->handles.push_back(handle_);
}

Result<Tpm> Tpm::open(const std::string& tcti) {
  return open(tcti, Patience{});
}
Result<Tpm> Tpm::open(const std::string& tcti, Patience patience) {
  SP_TRY(auto transport, open_tcti(tcti, std::move(patience)));
  return Tpm{std::move(transport)};
}

Tpm::Tpm(std::unique_ptr<Transport> transport, std::chrono::milliseconds patience)
    : device_(std::make_unique<Device>(std::move(transport), patience)),
      abandoned_(std::make_shared<LeaseSession::Abandoned>()) {}
Tpm::Tpm(Tpm&&) noexcept = default;
Tpm& Tpm::operator=(Tpm&& other) noexcept {
  if (this != &other) {
    if (device_ != nullptr) device_->flush_ours();
    device_ = std::move(other.device_);
    abandoned_ = std::move(other.abandoned_);
    ak_form_ = other.ak_form_;
    ak_public_ = std::move(other.ak_public_);
    ak_context_ = std::move(other.ak_context_);
  }
  return *this;
}
Tpm::~Tpm() {
  if (device_ != nullptr) device_->flush_ours();
}

void Tpm::bury_abandoned() {
  std::vector<Handle> handles;
  {
    const std::lock_guard lock{abandoned_->mutex};
    handles.swap(abandoned_->handles);
  }
  for (const Handle handle : handles) {
    Command command{Cc::kFlushContext};
    command.parameters.u32(handle);
    static_cast<void>(device_->run(command));  // a reset may have taken it already
    device_->forget(handle);
  }
}

Result<Loaded> Tpm::load(ByteView context) {
  Command command{Cc::kContextLoad};
  command.returns_handle();
  command.parameters.raw(context);
  SP_TRY(const Response response, device_->run(command));
  return Loaded{*device_, response.handle};
}

Result<Loaded> Tpm::load_ak() {
  if (!ak_context_.empty()) {
    auto saved = load(ak_context_);
    if (saved.has_value() || is_away(saved.error())) return saved;
    ak_context_.clear();  // the TPM was reset or cleared since
  }
  SP_TRY(Loaded ak,
         create_primary(*device_, kEndorsement,
                        evidence::encode_for_create(evidence::ak_templates().at(ak_form_)), &ak_public_));
  SP_TRY(ak_context_, save_context(*device_, ak.handle()));
  return ak;
}

Result<Loaded> Tpm::load_ek(const evidence::PublicArea& ek, ByteView ek_public) {
  SP_TRY(const auto persistent, find_persistent(*device_, ek_public));
  if (persistent.has_value()) return Loaded::persistent(*persistent);
  Bytes derived;
  SP_TRY(Loaded loaded,
         create_primary(*device_, kEndorsement, evidence::encode_for_create_ek(ek.form), &derived));
  if (!equal(derived, ek_public))
    return Error{Code::kUnverified, Reason::kEkUnsupported,
                 "the TPM derives another endorsement key from this template"};
  return loaded;
}

Result<Loaded> Tpm::load_session_key(const SessionKey& key) {
  auto loaded = load(key.context);
  if (loaded.has_value() || is_away(loaded.error())) return loaded;
  Error error = loaded.error();
  error.code = Code::kDenied;
  error.reason = Reason::kBootCounters;
  error.what = "the session key is gone, the TPM was reset since: " + error.what;
  return error;
}

Result<BootTime> Tpm::boot_time() {
  bury_abandoned();
  Command clock{Cc::kReadClock};
  SP_TRY(const Response time, device_->run(clock));
  Reader in{time.parameters};
  BootTime out;
  SP_TRY(out.time_ms, in.u64());
  SP_TRY(out.clock.clock_ms, in.u64());
  SP_TRY(out.clock.reset_count, in.u32());
  SP_TRY(out.clock.restart_count, in.u32());
  SP_TRY(const std::uint8_t safe, in.u8());
  SP_CHECK(in.finish());
  out.clock.safe = safe != 0;

  constexpr std::uint32_t kCapProperties = 6, kManufacturer = 0x105, kFirmware1 = 0x10B, kFirmware2 = 0x10C;
  constexpr std::uint32_t kAsked = kFirmware2 - kManufacturer + 1;
  Command properties{Cc::kGetCapability};
  properties.parameters.u32(kCapProperties).u32(kManufacturer).u32(kAsked);
  SP_TRY(const Response found, device_->run(properties));
  Reader list{found.parameters};
  SP_TRY(const std::uint8_t more, list.u8());
  SP_TRY(const std::uint32_t capability, list.u32());
  SP_TRY(const std::uint32_t count, list.u32());
  if (more > 1 || capability != kCapProperties || count > kAsked)
    return not_understood(Cc::kGetCapability, "not a property list");
  for (std::uint32_t i = 0; i < count; ++i) {
    SP_TRY(const std::uint32_t property, list.u32());
    SP_TRY(const std::uint32_t value, list.u32());
    if (property == kFirmware1) out.firmware_version |= static_cast<std::uint64_t>(value) << 32;
    if (property == kFirmware2) out.firmware_version |= value;
    if (property == kManufacturer) {
      for (int shift = 24; shift >= 0; shift -= 8) {
        const char c = static_cast<char>(value >> shift & 0xFF);
        if (c >= ' ' && c <= '~') out.manufacturer += c;
      }
    }
  }
  SP_CHECK(list.finish());
  return out;
}

Result<std::vector<Endorsement>> Tpm::endorsements() {
  bury_abandoned();
  const auto& forms = evidence::ek_templates();
  std::vector<Endorsement> out;
  std::vector<Bytes> chain;
  for (const EkSlot& slot : kEkSlots) {
    SP_TRY(auto certificate, find_nv(*device_, slot.nv_index));
    if (!certificate.has_value()) continue;
    const auto parsed = evidence::parse_ek_certificate(*certificate);
    if (!parsed.has_value()) continue;
    const auto key = parsed->public_key();
    const evidence::PublicTemplate& form = forms.at(slot.form);
    if (!key.has_value() || key->algorithm() != form.algorithm) continue;
    const Bytes area =
        evidence::encode(evidence::PublicArea{form, *key});  // what this TPM must have for it to be usable
    if (const auto ek = load_ek(evidence::PublicArea{form, *key}, area); !ek.has_value()) {
      if (is_away(ek.error())) return ek.error();  // says nothing about this key
      continue;
    }
    out.push_back(Endorsement{area, std::move(*certificate), {}, form});
  }
  if (out.empty()) return out;
  SP_TRY(const auto indices, device_->handles_from(kFirstChainIndex));
  for (const std::uint32_t index : indices) {
    if (index < kFirstChainIndex || index > kLastChainIndex) continue;
    SP_TRY(const auto bytes, find_nv(*device_, index));
    if (!bytes.has_value()) continue;
    for (Bytes& certificate : split_certificates(*bytes)) chain.push_back(std::move(certificate));
  }
  for (Endorsement& endorsement : out) endorsement.chain = chain;
  return out;
}

Result<Endorsement> Tpm::endorsement() {
  SP_TRY(auto all, endorsements());
  if (all.empty())
    return Error{Code::kUnavailable, Reason::kEkCertificate,
                 "the TPM holds no certificate for an endorsement key that it derives"};
  return std::move(all.front());
}

void Tpm::use_ak(crypto::KeyAlgorithm algorithm) {
  const auto& forms = evidence::ak_templates();
  const auto found = std::ranges::find(forms, algorithm, &evidence::PublicTemplate::algorithm);
  SP_ASSERT(found != forms.end());
  const auto form = static_cast<std::size_t>(found - forms.begin());
  if (form == ak_form_) return;
  ak_form_ = form;
  ak_context_.clear();
}

Result<Bytes> Tpm::attestation_key() {
  bury_abandoned();
  SP_TRY(const Loaded ak, load_ak());
  return ak_public_;
}

Result<evidence::IdentityEvidence> Tpm::prove_identity(const Digest256& binding) {
  bury_abandoned();
  SP_TRY(const StartedSession audit, start_session(*device_, SessionType::kHmac));
  evidence::IdentityEvidence out;
  {
    Command create{Cc::kCreatePrimary};
    create.handle(kEndorsement).authorize().audit(audit.session.handle()).returns_handle();
    create.parameters.raw(evidence::identity_parameters());
    SP_TRY(Response response, device_->run(create));
    const Loaded key{*device_, response.handle};
    out.created = std::move(response.parameters);
  }
  SP_TRY(const Loaded ak, load_ak());
  Command command{Cc::kGetSessionAuditDigest};
  command.handle(kEndorsement).handle(ak.handle()).handle(audit.session.handle()).authorize().authorize();
  command.parameters.prefixed16(view(binding)).u16(kAlgNull);
  SP_TRY(const Response response, device_->run(command));
  SP_TRY(out.audit, read_signed_attest(response, command.code));
  return out;
}

Result<SecretBytes> Tpm::activate_credential(ByteView ek_public, const evidence::CredentialBlob& blob) {
  bury_abandoned();
  SP_TRY(const auto area, evidence::parse_public_area(ek_public));
  const auto& forms = evidence::ek_templates();
  if (std::find(forms.begin(), forms.end(), area.form) == forms.end())
    return Error{Code::kMalformed, Reason::kEkUnsupported, "not an endorsement key of a known template"};
  if (blob.id_object.size() > kMaxTpm2b || blob.encrypted_secret.size() > kMaxTpm2b)
    return Error{Code::kMalformed, Reason::kCredentialChallenge, "a credential blob longer than its cap"};

  SP_TRY(const Loaded ek, load_ek(area, ek_public));
  SP_TRY(const Loaded ak, load_ak());
  Command command{Cc::kActivateCredential};
  command.handle(ak.handle()).handle(ek.handle()).authorize();
  Loaded session;
  if ((area.form.attributes & evidence::attribute::kUserWithAuth) != 0) {
    command.authorize();
  } else {
    SP_TRY(StartedSession started, start_policy_session(*device_));
    session = std::move(started.session);
    SP_CHECK(satisfy_ek_policy(*device_, session.handle()));
    command.authorize(session.handle(), /*keep=*/true);  // flushed by `session`
  }
  command.parameters.prefixed16(blob.id_object).prefixed16(blob.encrypted_secret);
  auto response = device_->run(command);
  if (!response.has_value()) {
    Error error = response.error();
    const std::uint32_t rc = base_rc(error.device_rc);
    // Everything that a wrong blob can cause; what is wrong with the device itself keeps its own reason.
    // (libtpms 0.9 answers TPM_RC_FAILURE to a secret that RSA-OAEP does not open, and goes on working.)
    if (((rc & 0xFFFFFF80) == 0x080 && rc != kRcHandle && rc != 0x0A2) || rc == kRcFailure) {
      error.code = Code::kUnverified;
      error.reason = Reason::kCredentialChallenge;
    }
    return error;
  }
  return read_secret(std::move(*response), evidence::kMaxCredentialSecret, /*in_point=*/false);
}

Result<std::vector<Digest256>> Tpm::read_pcrs(const evidence::PcrSelection& selection) {
  bury_abandoned();
  std::vector<Digest256> values;
  std::uint32_t rest = selection.mask();
  while (rest != 0) {  // a TPM gives at most eight digests at a time
    SP_TRY(const auto asked, evidence::PcrSelection::from_mask(rest));
    Command command{Cc::kPcrRead};
    command.parameters.raw(evidence::encode(asked));
    SP_TRY(const Response response, device_->run(command));
    Reader in{response.parameters};
    SP_TRY(const std::uint32_t update_counter, in.u32());
    static_cast<void>(update_counter);
    const auto got = evidence::read_pcr_selection(in);
    if (!got.has_value())
      return Error{Code::kUnavailable, Reason::kQuotePcrs, "the TPM has no SHA-256 bank with these PCRs"};
    SP_TRY(const std::uint32_t count, in.u32());
    const std::uint32_t mask = got->mask();
    // Exactly the lowest of what was asked for, so that the values come in order of index.
    const std::uint32_t below = mask == 0 ? 0 : (std::bit_floor(mask) << 1) - 1;
    if ((mask & ~rest) != 0 || (rest & below) != mask || count != got->count())
      return not_understood(command.code, "other PCRs than asked for");
    for (std::uint32_t i = 0; i < count; ++i) {
      SP_TRY(const ByteView digest, in.prefixed16(32));
      if (digest.size() != 32) return not_understood(command.code, "a digest of another size");
      ByteArray<32> value;
      std::copy(digest.begin(), digest.end(), value.begin());
      values.emplace_back(value);
    }
    SP_CHECK(in.finish());
    rest &= ~mask;
  }
  return values;
}

Result<Quote> Tpm::quote(const evidence::PcrSelection& selection, const Digest256& binding) {
  bury_abandoned();
  SP_TRY(const Loaded ak, load_ak());
  for (int attempt = 0; attempt < kQuoteAttempts; ++attempt) {
    SP_TRY(auto values, read_pcrs(selection));
    Command command{Cc::kQuote};
    command.handle(ak.handle()).authorize();
    command.parameters.prefixed16(view(binding)).u16(kAlgNull).raw(evidence::encode(selection));
    SP_TRY(const Response response, device_->run(command));
    SP_TRY(auto signed_attest, read_signed_attest(response, command.code));
    SP_TRY(const auto claimed, evidence::parse_attest(signed_attest.attest));
    const auto* quoted = std::get_if<evidence::ClaimedQuote>(&claimed.attested);
    if (quoted == nullptr) return not_understood(command.code, "not a quote");
    if (quoted->pcr_digest == evidence::pcr_digest(values))
      return Quote{std::move(signed_attest), std::move(values)};
  }
  return Error{Code::kUnavailable, Reason::kTpmPcrChanged, "PCRs moved between reading and quoting",
               Next::kRetryLater, 0};
}

Result<SessionKey> Tpm::create_session_key(evidence::SessionKeyUse use,
                                           const evidence::SessionKeyPolicy& policy,
                                           const crypto::PublicKey& lease_key) {
  bury_abandoned();
  SP_TRY(const auto lease_public, evidence::lease_key_public(lease_key));
  if (lease_public.name != policy.lease_key)
    return Error{Code::kMalformed, Reason::kKeyPolicy, "the policy names another lease key"};
  const auto form = evidence::session_key_template(use, evidence::policy_digest(policy));
  Bytes made;
  SP_TRY(const Loaded key, create_primary(*device_, kNull, evidence::encode_for_create(form), &made));
  SP_TRY(const auto area, evidence::parse_public_area(made));
  if (area.form != form)
    return Error{Code::kUnverified, Reason::kKeyTemplate, "the TPM made a key of another form"};
  SP_TRY(auto context, save_context(*device_, key.handle()));
  return SessionKey{use, policy, lease_key, std::move(made), evidence::name_of(area), std::move(context)};
}

Result<evidence::SignedAttest> Tpm::certify(const SessionKey& key, const Digest256& binding) {
  bury_abandoned();
  SP_TRY(const Loaded object, load_session_key(key));
  SP_TRY(const Loaded ak, load_ak());
  Command command{Cc::kCertify};
  command.handle(object.handle()).handle(ak.handle()).authorize().authorize();
  command.parameters.prefixed16(view(binding)).u16(kAlgNull);
  SP_TRY(const Response response, device_->run(command));
  return read_signed_attest(response, command.code);
}

Result<LeaseSession> Tpm::begin_lease() {
  bury_abandoned();
  SP_TRY(StartedSession started, start_policy_session(*device_));
  const Handle handle = started.session.handle();
  SP_TRY(Bytes context, save_context(*device_, handle));
  started.session.release();
  device_->hold(handle);
  return LeaseSession{abandoned_, handle, started.nonce_tpm, std::move(context)};
}

// The three policy commands of evidence::SessionKeyPolicy, in its order. At no time does a lease hold two
// objects: programs that each hold one of three and wait for another would wait for ever.
Result<Loaded> Tpm::satisfy(LeaseSession lease_session, const SessionKey& key, const Lease& lease,
                            const Digest256& cp_hash) {
  SP_TRY(const auto lease_public, evidence::lease_key_public(key.lease_key));
  Command external{Cc::kLoadExternal};
  external.returns_handle();
  external.parameters.u16(0).prefixed16(lease_public.tpmt_public).u32(kNull);
  SP_TRY(const Response loaded, device_->run(external));
  const Loaded lease_key{*device_, loaded.handle};

  SP_TRY(Loaded session, load(lease_session.context_));
  if (session.handle() != lease_session.handle_) return not_understood(Cc::kContextLoad, "another session");
  device_->forget(lease_session.handle_);  // it was held as a saved session; now `session` holds it
  device_->hold(session.handle());
  lease_session.abandoned_.reset();  // loaded: `session` flushes it

  Command pcr{Cc::kPolicyPcr};
  pcr.handle(session.handle());
  pcr.parameters.prefixed16(view(key.policy.pcr_digest)).raw(evidence::encode(key.policy.selection));
  SP_CHECK(with_reason(device_->run(pcr), kRcValue, Code::kDenied, Reason::kBootState));

  constexpr std::uint16_t kOffsetOfResetCount = 16, kEqual = 0;
  Command counters{Cc::kPolicyCounterTimer};
  counters.handle(session.handle());
  counters.parameters.prefixed16(Writer{}.u32(key.policy.reset_count).u32(key.policy.restart_count).bytes());
  counters.parameters.u16(kOffsetOfResetCount).u16(kEqual);
  SP_CHECK(device_->run(counters));

  Command permit{Cc::kPolicySigned};
  permit.handle(lease_key.handle()).handle(session.handle());
  permit.parameters.prefixed16(lease_session.nonce_tpm_)
      .prefixed16(view(cp_hash))
      .prefixed16(view(key.policy.policy_ref));
  permit.parameters.u32(lease.expiration_seconds).raw(evidence::encode_ecdsa(lease.signature));
  SP_CHECK(device_->run(permit));
  return session;
}

Result<crypto::Signature64> Tpm::sign_with_lease(LeaseSession session, const SessionKey& key,
                                                 const Lease& lease, const Digest256& digest) {
  bury_abandoned();
  if (key.use != evidence::SessionKeyUse::kSign)
    return Error{Code::kInternal, Reason::kKeyTemplate, "not a signing key"};
  SP_TRY(Loaded policy, satisfy(std::move(session), key, lease, evidence::cp_hash_sign(key.name, digest)));
  SP_TRY(const Loaded object, load_session_key(key));
  Command command{Cc::kSign};
  command.handle(object.handle()).authorize(policy.handle());
  command.parameters.prefixed16(view(digest)).u16(kAlgNull).u16(kTagHashCheck).u32(kNull).u16(0);
  SP_TRY(const Response response,
         with_reason(device_->run(command), kRcPolicyFail, Code::kUnverified, Reason::kKeyPolicy));
  policy.release();  // used: the TPM has flushed it
  Reader in{response.parameters};
  SP_TRY(const crypto::Signature64 signature, read_ecdsa(in, command.code));
  SP_CHECK(in.finish());
  return signature;
}

Result<SecretBytes> Tpm::agree_with_lease(LeaseSession session, const SessionKey& key, const Lease& lease,
                                          ByteView point) {
  bury_abandoned();
  if (key.use != evidence::SessionKeyUse::kAgree)
    return Error{Code::kInternal, Reason::kKeyTemplate, "not an agreement key"};
  SP_TRY(const Digest256 cp_hash, evidence::cp_hash_ecdh_zgen(key.name, point));
  SP_TRY(Loaded policy, satisfy(std::move(session), key, lease, cp_hash));
  SP_TRY(const Loaded object, load_session_key(key));
  Command command{Cc::kEcdhZGen};
  command.handle(object.handle()).authorize(policy.handle());
  command.parameters.prefixed16(
      Writer{}.prefixed16(point.subspan(1, 32)).prefixed16(point.subspan(33, 32)).bytes());
  SP_TRY(Response response,
         with_reason(device_->run(command), kRcPolicyFail, Code::kUnverified, Reason::kKeyPolicy));
  policy.release();
  return read_secret(std::move(response), 32, /*in_point=*/true);
}

Result<std::vector<std::uint32_t>> Tpm::loaded_handles() {
  bury_abandoned();
  return device_->handles();
}

Status Tpm::flush_leftovers() {
  bury_abandoned();
  return device_->flush_others();
}

}  // namespace sallyport::tpm
