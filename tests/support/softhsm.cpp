#include "tests/support/softhsm.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <fstream>

namespace sallyport::test {

namespace {

void write_secret(const std::filesystem::path& path, std::string_view text) {
  std::ofstream{path, std::ios::binary} << text << '\n';
  std::filesystem::permissions(path,
                               std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

}  // namespace

std::string TemporarySoftHsm::module_path() {
  const char* const chosen = getenv("SALLYPORT_PKCS11_MODULE");
  return chosen != nullptr && *chosen != '\0' ? chosen : "/usr/lib/softhsm/libsofthsm2.so";
}

bool TemporarySoftHsm::available() {
  return std::filesystem::exists(module_path());
}

TemporarySoftHsm::TemporarySoftHsm(std::initializer_list<std::string_view> labels) {
  const auto tokens = directory_ / "tokens";
  std::filesystem::create_directory(tokens);
  std::ofstream{conf()} << "directories.tokendir = " << tokens.string() << "\nobjectstore.backend = file\n"
                        << "log.level = ERROR\nslots.removable = false\nslots.mechanisms = ALL\n";
  write_secret(pin_file(), kPin);
  write_secret(so_pin_file(), kSoPin);
  setenv("SOFTHSM2_CONF", conf().c_str(), 1);
  for (const std::string_view label : labels) add_token(label);
}

TemporarySoftHsm::~TemporarySoftHsm() {
  unsetenv("SOFTHSM2_CONF");
}

void TemporarySoftHsm::add_token(std::string_view label) {
  const auto module = pkcs11::Module::load({.path = module_path(), .arguments = {}});
  if (!module) {
    ADD_FAILURE() << describe(module.error());
    return;
  }
  const auto made = module->init_token(label, so_pin(), pin());
  if (!made) ADD_FAILURE() << describe(made.error());
}

pkcs11::TokenSelector TemporarySoftHsm::selector(std::string_view label) const {
  return {.module = {.path = module_path(), .arguments = {}}, .label = std::string{label}, .serial = {}};
}

std::string TemporarySoftHsm::uri(std::string_view label) const {
  return "pkcs11:token=" + std::string{label} + "?module-path=" + module_path();
}

pkcs11::Token TemporarySoftHsm::open(std::string_view label, const pkcs11::TokenOptions& options) const {
  auto token = pkcs11::Token::open(selector(label), pin(), options);
  if (!token) {
    ADD_FAILURE() << describe(token.error());
    std::abort();
  }
  return std::move(token).value();
}

}  // namespace sallyport::test

// SoftHSM 2.6.1 loses an ASN1_STRING (24 + 13 bytes) in each C_SignInit with an Ed25519 key. Only a stack
// that goes through the frames of libcrypto shows whose it is, hence the slow unwinder. Without
// AddressSanitizer nobody calls these.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() {
  return "fast_unwind_on_malloc=0:malloc_context_size=16";
}
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() {
  return "leak:libsofthsm2.so\n";
}
