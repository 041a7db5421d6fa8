#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "hsm-config/pkcs11/token.h"
#include "tests/support/files.h"

namespace sallyport::test {

// TemporarySoftHsm is a SoftHSM with its tokens in a temporary directory. The constructor sets SOFTHSM2_CONF
// for this process and its children, so make it before a module is loaded and before threads start; at most
// one at a time. All tokens have the same PINs. SALLYPORT_PKCS11_MODULE names another build of SoftHSM. Link
// sallyport::test_softhsm.
class TemporarySoftHsm {
 public:
  static constexpr std::string_view kPin = "2468-user-pin";
  static constexpr std::string_view kSoPin = "1357-so-pin";

  explicit TemporarySoftHsm(std::initializer_list<std::string_view> labels = {});
  ~TemporarySoftHsm();
  TemporarySoftHsm(const TemporarySoftHsm&) = delete;
  TemporarySoftHsm& operator=(const TemporarySoftHsm&) = delete;

  static bool available();           // the module is installed
  static std::string module_path();  // SALLYPORT_PKCS11_MODULE, or Debian's SoftHSM

  void add_token(std::string_view label);
  pkcs11::TokenSelector selector(std::string_view label) const;
  std::string uri(std::string_view label) const;  // RFC 7512, with module-path
  pkcs11::Token open(std::string_view label,
                     const pkcs11::TokenOptions& options = {}) const;  // or fails the test and aborts

  std::filesystem::path conf() const { return directory_ / "softhsm2.conf"; }
  std::filesystem::path pin_file() const { return directory_ / "pin"; }        // mode 0600, kPin
  std::filesystem::path so_pin_file() const { return directory_ / "so-pin"; }  // mode 0600, kSoPin
  const std::filesystem::path& directory() const { return directory_.path(); }

  static SecretBytes pin() { return SecretBytes{as_bytes(kPin)}; }
  static SecretBytes so_pin() { return SecretBytes{as_bytes(kSoPin)}; }

 private:
  TemporaryDirectory directory_;
};

}  // namespace sallyport::test
