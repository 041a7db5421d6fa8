// A PKCS #11 module whose every answer is steered by the input: whatever it says, nothing crashes, nothing
// hangs, and no signature is handed out that does not verify.
#include <dlfcn.h>

#include <cstdlib>

#include "attestation/base/error.h"
#include "hsm-config/pkcs11/probe.h"
#include "tests/support/nonsense_module.h"

using namespace sallyport;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static void* const library = dlopen(SALLYPORT_NONSENSE_MODULE, RTLD_NOW | RTLD_LOCAL);
  SP_ASSERT(library != nullptr);
  static const auto script = reinterpret_cast<decltype(&nonsense_script)>(dlsym(library, "nonsense_script"));
  SP_ASSERT(script != nullptr);
  if (size > 4096) return 0;
  const Digest256 digest{ByteArray<32>{1, 2, 3}};
  const pkcs11::TokenSelector selector{
      .module = {.path = SALLYPORT_NONSENSE_MODULE, .arguments = {}}, .label = "nonsense", .serial = {}};
  script(data, size);
  {
    const auto token =
        pkcs11::Token::open(selector, SecretBytes{as_bytes("1234")}, {.deadline = std::chrono::seconds{20}});
    if (token) {
      for (int round = 0; round < 2; ++round) {
        const auto keys = token->list_keys();
        if (!keys) continue;
        for (const pkcs11::KeyHandle& key : *keys) {
          if (const auto signature = token->sign_p256(key, digest)) {
            SP_ASSERT(crypto::verify_p256(key.public_key(), digest, *signature).has_value());
            SP_ASSERT(crypto::is_low_s(*signature));
          }
          if (const auto secret = token->ecdh(key, key.public_key())) SP_ASSERT(secret->size() == 32);
          if (round == 0) break;
        }
      }
      if (const auto report = pkcs11::probe_token(*token)) SP_ASSERT(report->succeeded.empty());
      static_cast<void>(token->check_alive().has_value());
    }
    script(nullptr, 0);  // logout and C_Finalize behave
  }
  return 0;
}
