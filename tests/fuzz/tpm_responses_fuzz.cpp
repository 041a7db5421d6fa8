// A TPM that answers with anything. The first byte says what is asked of it; then come its responses, each
// with a u16 length in front. Whatever it says: no crash, a quote that is handed out is about the PCR values
// beside it, and every handle that the TPM gave was flushed, saved or used up in the end.
#include <cstdint>
#include <cstdlib>
#include <map>

#include "attestation/base/reader.h"
#include "attestation/evidence/attest.h"
#include "attestation/evidence/key_policy.h"
#include "attestation/tpm/command.h"
#include "attestation/tpm/tpm.h"

namespace {

using namespace sallyport;
using tpm::Cc;

void require(bool condition) {
  if (!condition) std::abort();
}

class Liar final : public tpm::Transport {
 public:
  Liar(ByteView answers, std::map<tpm::Handle, int>& loaded) : answers_(answers), loaded_(loaded) {}
  bool is_managed() const override { return true; }
  bool is_simulator() const override { return false; }

  Result<Bytes> exchange(ByteView bytes) override {
    Reader command{bytes};
    SP_TRY(const ByteView tag_and_size, command.raw(6));
    static_cast<void>(tag_and_size);
    SP_TRY(const std::uint32_t code, command.u32());
    const auto cc = static_cast<Cc>(code);
    if (cc == Cc::kFlushContext) {
      SP_TRY(const tpm::Handle handle, command.u32());
      --loaded_[handle];
      return to_bytes(Writer{}.u16(0x8001).u32(10).u32(0).bytes());
    }
    SP_TRY(const ByteView answer, answers_.prefixed16(4096));
    remember(cc, command, answer);
    return to_bytes(answer);
  }

 private:
  void remember(Cc cc, Reader command, ByteView answer) {
    const bool sessions = cc == Cc::kCreatePrimary || cc == Cc::kSign;
    tpm::Command shape{cc};
    if (sessions) shape.authorize();
    if (cc == Cc::kCreatePrimary || cc == Cc::kContextLoad || cc == Cc::kLoadExternal ||
        cc == Cc::kStartAuthSession)
      shape.returns_handle();
    const auto response = tpm::parse_response(shape, answer);
    if (!response.has_value()) return;
    if (shape.gives_handle) ++loaded_[response->handle];
    if (cc == Cc::kContextSave) {  // of a session: it is no longer loaded, and its handle stays
      saved_ = command.u32().value();
    }
    if (cc == Cc::kContextLoad && response->handle == saved_) --loaded_[saved_];
    if (cc == Cc::kSign) {
      // The session in the first authorization is used up.
      if (command.u32().has_value() && command.u32().has_value()) --loaded_[command.u32().value()];
    }
  }
  Reader answers_;
  std::map<tpm::Handle, int>& loaded_;
  tpm::Handle saved_ = 0;
};

tpm::SessionKey some_key() {
  // The generator of P-256.
  const ByteArray<32> x{0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6,
                        0xe5, 0x63, 0xa4, 0x40, 0xf2, 0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb,
                        0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96};
  const ByteArray<32> y{0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb,
                        0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31,
                        0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5};
  const auto lease_key = crypto::PublicKey::from_p256(x, y).value();
  const evidence::SessionKeyPolicy policy{evidence::PcrSelection::standard(),
                                          Digest256{},
                                          1,
                                          0,
                                          evidence::lease_key_public(lease_key).value().name,
                                          Digest256{}};
  const auto form =
      evidence::session_key_template(evidence::SessionKeyUse::kSign, evidence::policy_digest(policy));
  const evidence::PublicArea area{form, lease_key};
  return {evidence::SessionKeyUse::kSign, policy,   lease_key, evidence::encode(area),
          evidence::name_of(area),        Bytes(16)};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::map<tpm::Handle, int> loaded;
  {
    tpm::Tpm device{std::make_unique<Liar>(ByteView{data + 1, size - 1}, loaded),
                    std::chrono::milliseconds{0}};
    const auto selection = evidence::PcrSelection::standard();
    switch (data[0] % 8) {
      case 0:
        static_cast<void>(device.boot_time());
        break;
      case 1:
        static_cast<void>(device.endorsements());
        break;
      case 2:
        static_cast<void>(device.attestation_key());
        break;
      case 3: {
        const auto quote = device.quote(selection, Digest256{});
        if (!quote.has_value()) break;
        const auto claimed = evidence::parse_attest(quote->evidence.attest);
        require(claimed.has_value());
        const auto* quoted = std::get_if<evidence::ClaimedQuote>(&claimed->attested);
        require(quoted != nullptr && quoted->pcr_digest == evidence::pcr_digest(quote->pcrs));
        require(evidence::parse_signature(quote->evidence.signature).has_value());
        break;
      }
      case 4: {
        const tpm::SessionKey key = some_key();
        const auto made = device.create_session_key(key.use, key.policy, key.lease_key);
        if (made.has_value()) static_cast<void>(device.certify(*made, Digest256{}));
        break;
      }
      case 5:
      case 6: {
        const tpm::SessionKey key = some_key();
        auto session = device.begin_lease();
        if (session.has_value() && data[0] % 8 == 5)
          static_cast<void>(device.sign_with_lease(std::move(*session), key, tpm::Lease{1, {}}, Digest256{}));
        break;
      }
      default: {
        const auto ek =
            evidence::encode(evidence::PublicArea{evidence::ek_templates().at(1), some_key().lease_key});
        static_cast<void>(device.activate_credential(ek, evidence::CredentialBlob{Bytes(4), Bytes(4)}));
      }
    }
  }
  for (const auto& [handle, balance] : loaded) require(balance <= 0);
  return 0;
}
