#include <gmock/gmock.h>

#include <deque>

#include "attestation/base/reader.h"
#include "attestation/crypto/digest.h"
#include "attestation/tpm/command.h"
#include "attestation/tpm/next_step.h"
#include "attestation/tpm/tpm.h"
#include "tests/support/matchers.h"
#include "tests/support/soft_tpm.h"

namespace sallyport::tpm {
namespace {

using evidence::PcrSelection;
using test::FailsWith;
using test::Succeeds;
using test::value_of;
using testing::ElementsAre;
using testing::IsEmpty;

// Scripted answers commands from a list and remembers them; at the end of the list the device is gone.
struct Script {
  std::deque<Bytes> answers;
  std::vector<Cc> commands;
};
class Scripted final : public Transport {
 public:
  Scripted(std::shared_ptr<Script> script, bool managed, bool simulator)
      : script_(std::move(script)), managed_(managed), simulator_(simulator) {}
  Result<Bytes> exchange(ByteView command) override {
    Reader in{command};
    SP_TRY(const ByteView tag_and_size, in.raw(6));
    static_cast<void>(tag_and_size);
    SP_TRY(const std::uint32_t code, in.u32());
    script_->commands.push_back(static_cast<Cc>(code));
    if (script_->answers.empty()) return Error{Code::kUnavailable, Reason::kTpmAbsent, "end of the script"};
    Bytes answer = std::move(script_->answers.front());
    script_->answers.pop_front();
    return answer;
  }
  bool is_managed() const override { return managed_; }
  bool is_simulator() const override { return simulator_; }

 private:
  std::shared_ptr<Script> script_;
  bool managed_, simulator_;
};

Bytes refusal(std::uint32_t rc) {
  return Writer{}.u16(0x8001).u32(10).u32(rc).bytes();
}
Bytes answer(ByteView body) {
  return Writer{}.u16(0x8001).u32(static_cast<std::uint32_t>(10 + body.size())).u32(0).raw(body).bytes();
}
// With the authorizations of `sessions` empty sessions.
Bytes session_answer(ByteView parameters, int sessions = 1, std::optional<Handle> handle = {}) {
  Writer body;
  if (handle.has_value()) body.u32(*handle);
  body.prefixed32(parameters);
  for (int i = 0; i < sessions; ++i) body.u16(0).u8(1).u16(0);
  return Writer{}
      .u16(0x8002)
      .u32(static_cast<std::uint32_t>(10 + body.bytes().size()))
      .u32(0)
      .raw(body.bytes())
      .bytes();
}
Device device_of(std::shared_ptr<Script> script,
                 std::chrono::milliseconds patience = std::chrono::seconds{5}) {
  return Device{std::make_unique<Scripted>(std::move(script), true, false), patience};
}

TEST(TpmCommand, IsEncodedAsTheSpecificationSays) {
  Command command{Cc::kSign};
  command.handle(0x80000001).authorize(0x03000000).authorize(kPassword);
  command.parameters.u16(0xABCD);
  const Bytes expected = {0x80, 0x02, 0, 0, 0, 0x26, 0, 0, 0x01, 0x5D, 0x80, 0,    0, 1, 0, 0, 0, 0x12, 0x03,
                          0,    0,    0, 0, 0, 0,    0, 0, 0x40, 0,    0,    0x09, 0, 0, 0, 0, 0, 0xAB, 0xCD};
  EXPECT_EQ(encode(command), expected);
}

TEST(TpmResponse, IsReadWithHandleAndSessions) {
  Command command{Cc::kCreatePrimary};
  command.handle(kNull).authorize().returns_handle();
  const Bytes bytes = session_answer(Bytes{1, 2, 3}, 1, 0x80000002);
  const auto response = value_of(parse_response(command, bytes));
  EXPECT_EQ(response.handle, 0x80000002U);
  EXPECT_THAT(response.parameters, ElementsAre(1, 2, 3));
}

TEST(TpmResponse, TruncatedAnywhereIsMalformed) {
  Command command{Cc::kCreatePrimary};
  command.handle(kNull).authorize().returns_handle();
  const Bytes whole = session_answer(Bytes{1, 2, 3}, 1, 0x80000002);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    Bytes cut{whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)};
    EXPECT_THAT(parse_response(command, cut), FailsWith(Code::kMalformed)) << size;
    if (size < 10) continue;
    cut[5] = static_cast<std::uint8_t>(size);  // also when the size field says so
    EXPECT_THAT(parse_response(command, cut), FailsWith(Code::kMalformed)) << size;
  }
}

TEST(TpmResponse, WithTrailingBytesIsMalformed) {
  Command command{Cc::kSign};
  command.authorize();
  Bytes longer = session_answer(Bytes{1, 2, 3});
  longer.push_back(0);
  EXPECT_THAT(parse_response(command, longer), FailsWith(Code::kMalformed));
  longer[5] += 1;
  EXPECT_THAT(parse_response(command, longer), FailsWith(Code::kMalformed));
}

TEST(TpmResponse, WithAnHmacOrAnotherTagIsMalformed) {
  Command command{Cc::kSign};
  command.authorize();
  Writer body;
  body.u32(0).u16(0).u8(1).prefixed16(Bytes{1});
  EXPECT_THAT(parse_response(command, Writer{}.u16(0x8002).u32(20).u32(0).raw(body.bytes()).bytes()),
              FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_response(command, answer(Bytes{0, 0, 0, 0})), FailsWith(Code::kMalformed));
}

TEST(TpmResponseCode, LosesTheNumberOfItsParameter) {
  EXPECT_EQ(base_rc(0x1C4), kRcValue);
  EXPECT_EQ(base_rc(0x9A3), kRcExpired);
  EXPECT_EQ(base_rc(0x4E3), kRcExpired);
  EXPECT_EQ(base_rc(0x5DB), kRcSignature);
  EXPECT_EQ(base_rc(0x1DF), kRcIntegrity);
  EXPECT_EQ(base_rc(0x99D), kRcPolicyFail);
  EXPECT_EQ(base_rc(0x18B), kRcHandle);
  EXPECT_EQ(base_rc(0x128), kRcPcrChanged);
  EXPECT_EQ(base_rc(0x902), kRcObjectMemory);
  EXPECT_EQ(base_rc(0xA000A), 0xA000AU);
}

TEST(TpmResponseCode, TellsReasonAndNextStep) {
  const auto expect = [](std::uint32_t rc, Reason reason, Next next) {
    const Error error = device_error(rc, "TPM2_Test");
    EXPECT_EQ(error.reason, reason) << std::hex << rc;
    EXPECT_EQ(error.next, next) << std::hex << rc;
    EXPECT_EQ(error.device_rc, rc);
  };
  expect(0x128, Reason::kTpmPcrChanged, Next::kReopenSession);
  expect(0x126, Reason::kBootCounters, Next::kGiveUp);
  expect(0x9A3, Reason::kLeaseExpired, Next::kReopenSession);
  expect(0x902, Reason::kTpmBusy, Next::kRetryLater);
  expect(0x905, Reason::kTpmBusy, Next::kRetryLater);
  expect(0x921, Reason::kTpm, Next::kCallOperator);
  expect(0x1DF, Reason::kTpm, Next::kGiveUp);
  expect(0x185, Reason::kTpm, Next::kCallOperator);
  expect(0xA000A, Reason::kTpmAbsent, Next::kRetryLater);
  expect(0x1FF, Reason::kTpm, Next::kGiveUp);
}

TEST(TpmDevice, SendsAgainWhatTheTpmAsksFor) {
  const auto script = std::make_shared<Script>();
  script->answers = {refusal(kRcRetry), refusal(kRcTesting), refusal(kRcYielded), answer(Bytes{7})};
  Device device = device_of(script);
  EXPECT_THAT(value_of(device.run(Command{Cc::kReadClock})).parameters, ElementsAre(7));
  EXPECT_EQ(script->commands.size(), 4U);
}

TEST(TpmDevice, LosesItsPatience) {
  const auto script = std::make_shared<Script>();
  for (int i = 0; i < 100; ++i) script->answers.push_back(refusal(kRcRetry));
  Device device = device_of(script, std::chrono::milliseconds{5});
  EXPECT_THAT(device.run(Command{Cc::kReadClock}), FailsWith(Reason::kTpmBusy));
}

TEST(TpmDevice, DoesNotFlushWhatIsNotItsOwnOnHardware) {
  for (const bool managed : {false, true}) {
    const auto script = std::make_shared<Script>();
    for (int i = 0; i < 100; ++i) script->answers.push_back(refusal(kRcObjectMemory));
    Device device{std::make_unique<Scripted>(script, managed, /*simulator=*/false),
                  std::chrono::milliseconds{5}};
    EXPECT_THAT(device.run(Command{Cc::kLoadExternal}), FailsWith(Reason::kTpmBusy));
    EXPECT_THAT(script->commands, testing::Each(Cc::kLoadExternal));
  }
}

TEST(TpmDevice, FlushesWhatWasLoadedAlsoWhenALaterStepFails) {
  const auto script = std::make_shared<Script>();
  Tpm tpm{std::make_unique<Scripted>(script, true, false)};
  // An AK whose response is cut: the object is in the TPM all the same.
  script->answers = {session_answer(Bytes{0, 9}, 1, 0x80000000), answer({})};
  EXPECT_THAT(tpm.attestation_key(), FailsWith(Code::kMalformed));
  EXPECT_THAT(script->commands, ElementsAre(Cc::kCreatePrimary, Cc::kFlushContext));
}

Bytes pcr_answer(std::uint32_t mask, const std::vector<Digest256>& values) {
  Writer body;
  body.u32(1).raw(evidence::encode(value_of(PcrSelection::from_mask(mask))));
  body.u32(static_cast<std::uint32_t>(values.size()));
  for (const Digest256& value : values) body.prefixed16(view(value));
  return answer(body.bytes());
}

TEST(TpmPcrs, AreReadInSeveralCommandsInOrderOfIndex) {
  const auto script = std::make_shared<Script>();
  Tpm tpm{std::make_unique<Scripted>(script, true, false)};
  const Digest256 a{ByteArray<32>{1}}, b{ByteArray<32>{2}}, c{ByteArray<32>{3}};
  script->answers = {pcr_answer(0x03, {a, b}), pcr_answer(0x4000, {c})};
  EXPECT_THAT(value_of(tpm.read_pcrs(value_of(PcrSelection::from_mask(0x4003)))), ElementsAre(a, b, c));
}

TEST(TpmPcrs, OtherThanAskedForAreRefused) {
  const Digest256 a{ByteArray<32>{1}};
  for (const Bytes& wrong : {pcr_answer(0x4000, {a}),   // the last one first: the order would be lost
                             pcr_answer(0x04, {a}),     // never asked for
                             pcr_answer(0x03, {a}),     // fewer values than PCRs
                             pcr_answer(0x01, {a, a}),  // more
                             answer(Writer{}.u32(1).u32(0).u32(0).bytes())}) {
    const auto script = std::make_shared<Script>();
    Tpm tpm{std::make_unique<Scripted>(script, true, false)};
    script->answers = {wrong};
    EXPECT_FALSE(tpm.read_pcrs(value_of(PcrSelection::from_mask(0x4003))).has_value());
  }
}

// Some TPMs leave leading zeros of r and s out; evidence has one encoding.
TEST(TpmQuote, SignatureIsBroughtToFullLength) {
  test::SoftTpm soft;
  const auto selection = PcrSelection::standard();
  const Digest256 binding = crypto::sha256(as_bytes("binding"));
  evidence::SignedAttest quote = soft.quote(binding, selection);
  // TPMT_SIGNATURE: algorithm, hash, TPM2B r at offset 4, TPM2B s at offset 38.
  while (quote.signature.at(6) != 0) quote = soft.quote(binding, selection);
  Writer shortened;
  shortened.raw(ByteView{quote.signature}.first(4)).prefixed16(ByteView{quote.signature}.subspan(7, 31));
  shortened.raw(ByteView{quote.signature}.subspan(38));

  const auto script = std::make_shared<Script>();
  Tpm tpm{std::make_unique<Scripted>(script, true, false)};
  Writer created;
  created.prefixed16(soft.ak_public()).u16(0).u16(0).u16(0x8021).u32(kEndorsement).u16(0).u16(0);
  const auto values = soft.pcr_values(selection);
  script->answers = {session_answer(created.bytes(), 1, 0x80000000),
                     answer(Bytes(20)),  // its context
                     pcr_answer(0xFF, {values.begin(), values.begin() + 8}),
                     pcr_answer(0x4000, {values.back()}),
                     session_answer(Writer{}.prefixed16(quote.attest).raw(shortened.bytes()).bytes())};
  const auto read = tpm.quote(selection, binding);
  ASSERT_THAT(read, Succeeds());
  EXPECT_EQ(read->evidence, quote);
  EXPECT_THAT(evidence::verify_quote(read->evidence, soft.ak(), binding, selection, read->pcrs), Succeeds());
}

TEST(TpmOpen, SaysThatThereIsNone) {
  EXPECT_THAT(Tpm::open("swtpm:path=/nonexistent/socket"), FailsWith(Reason::kTpmAbsent));
  EXPECT_THAT(Tpm::open("no-such-tcti"), FailsWith(Reason::kTpmAbsent));
}

}  // namespace
}  // namespace sallyport::tpm
