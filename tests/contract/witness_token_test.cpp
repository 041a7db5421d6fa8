// A witness whose key is on a token: SoftHSM, or SALLYPORT_PKCS11_MODULE.
#include <gtest/gtest.h>

#include "attestation/ledger/add_checkpoint.h"
#include "attestation/net/http_client.h"
#include "tests/support/softhsm.h"
#include "tests/support/test_log.h"
#include "tests/support/witness_process.h"

namespace sallyport::test {
namespace {

using testing::HasSubstr;
constexpr const char* kProgram = SALLYPORT_WITNESS_PROGRAM;

class WitnessToken : public testing::Test {
 protected:
  void SetUp() override {
    if (TemporarySoftHsm::available()) {
      hsm_.emplace(std::initializer_list<std::string_view>{"witness-1"});
      for (int i = 0; i < 9; ++i) log_.tree.append(ledger::hash_leaf(as_bytes("entry" + std::to_string(i))));
      return;
    }
    if (getenv("SALLYPORT_REQUIRE_DEVICES") != nullptr) FAIL() << "SoftHSM is not installed";
    GTEST_SKIP() << "SoftHSM is not installed";
  }
  WitnessProcess::Flags flags() const {
    return {{"--module", TemporarySoftHsm::module_path(), "--token", "witness-1", "--pin-file",
             hsm_->pin_file().string()},
            {}};
  }
  std::string body(std::uint64_t old_size, std::uint64_t size) const {
    return ledger::encode_add_checkpoint({TreeSize{old_size},
                                          value_of(log_.tree.consistency(TreeSize{old_size}, TreeSize{size})),
                                          log_.signed_note(log_.head(size))});
  }
  void accepted(const WitnessProcess& witness, std::uint64_t old_size, std::uint64_t size) const {
    auto client = value_of(net::HttpClient::connect(witness.url(), {}));
    const auto answer =
        value_of(client.post("/add-checkpoint", "text/plain", as_bytes(body(old_size, size))));
    EXPECT_EQ(answer.status, 200U) << answer.text();
    EXPECT_THAT(
        ledger::verify_cosigned_body(answer.text(), witness.vkey(), ledger::checkpoint_text(log_.head(size))),
        Succeeds());
  }
  std::vector<std::string> serve(const WitnessProcess& witness, std::vector<std::string> more) const {
    std::vector<std::string> all{"serve", "--state", witness.state().string(), "--log",
                                 ledger::format_vkey(log_.log_vkey())};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  std::optional<TemporarySoftHsm> hsm_;
  TestLog log_{0};
};

TEST_F(WitnessToken, CosignsAndStartsAgainWithTheKeyThatItsMemoryNames) {
  WitnessProcess witness{kProgram, "witness.example/w1", {ledger::format_vkey(log_.log_vkey())}, flags()};
  EXPECT_FALSE(std::filesystem::exists(witness.state() / "key.pem"));
  accepted(witness, 0, 5);
  witness.restart();
  accepted(witness, 5, 9);
  EXPECT_EQ(witness.terminate(), 0);
  EXPECT_EQ(witness.run({"key", "--state", witness.state().string()}),
            (std::pair{0, ledger::format_vkey(witness.vkey()) + "\n"}));
}

TEST_F(WitnessToken, TheKeyStaysInside) {
  WitnessProcess witness{kProgram, "witness.example/w1", {ledger::format_vkey(log_.log_vkey())}, flags()};
  EXPECT_EQ(witness.terminate(), 0);
  const auto token = hsm_->open("witness-1");
  const auto key = value_of(token.find_key("sallyport-witness"));
  EXPECT_EQ(key.public_key(), witness.vkey().key());
  EXPECT_TRUE(key.may_sign() && key.sensitive());
  EXPECT_FALSE(key.extractable() || key.may_derive());
}

TEST_F(WitnessToken, AnOldKeyIsNeverTakenForANewMemory) {
  WitnessProcess witness{kProgram, "witness.example/w1", {ledger::format_vkey(log_.log_vkey())}, flags()};
  std::vector<std::string> again{"init", "--state", (witness.state() / "again").string(), "--name",
                                 "witness.example/w1"};
  for (const std::string& flag : flags().key) again.push_back(flag);
  const auto [code, output] = witness.run(again);
  EXPECT_NE(code, 0);
  EXPECT_FALSE(std::filesystem::exists(witness.state() / "again" / "witness.db")) << output;
}

TEST_F(WitnessToken, DoesNotStartWithoutItsKeyOrWithAWrongPin) {
  WitnessProcess witness{kProgram, "witness.example/w1", {ledger::format_vkey(log_.log_vkey())}, flags()};
  EXPECT_EQ(witness.terminate(), 0);
  const auto fails = [&](std::vector<std::string> flags, int code, const char* why) {
    const auto [got, output] = witness.run(serve(witness, std::move(flags)));
    EXPECT_EQ(got, code) << output;
    EXPECT_THAT(output, HasSubstr(why));
  };
  auto wrong_pin = flags().key;
  wrong_pin.back() = hsm_->so_pin_file().string();
  fails(wrong_pin, 10, "token/pin");
  fails({}, 9, "key.pem");  // it is in no file
  auto no_token = flags().key;
  no_token[3] = "witness-2";
  fails(no_token, 10, "token/absent");

  WitnessProcess other{kProgram, "witness.example/w2", {ledger::format_vkey(log_.log_vkey())}};
  const auto [got, output] = other.run(serve(other, flags().key));
  EXPECT_EQ(got, 10) << output;  // the token has another key than that of this memory
  EXPECT_THAT(output, HasSubstr("token/key"));
}

TEST_F(WitnessToken, RefusesAWrongCommandLine) {
  WitnessProcess witness{kProgram, "witness.example/w1", {ledger::format_vkey(log_.log_vkey())}, flags()};
  const std::string module = TemporarySoftHsm::module_path(), pin = hsm_->pin_file().string();
  const std::vector<std::vector<std::string>> wrong = {
      {"--module", module},
      {"--token", "witness-1"},
      {"--pin-file", pin},
      {"--module", module, "--token", "witness-1", "--pin-file", pin, "--pin-fd", "0"},
      {"--module", module, "--token", "witness-1", "--pin-file", pin, "--key", "key.pem"},
      {"--module", module, "--token", "witness-1", "--pin", "1234"}};
  for (const auto& flags : wrong) EXPECT_EQ(witness.run(serve(witness, flags)).first, 2) << flags[0];
}

}  // namespace
}  // namespace sallyport::test
