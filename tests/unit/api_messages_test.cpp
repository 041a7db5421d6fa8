#include "attestation/api/messages.h"

#include <gtest/gtest.h>

#include "tests/support/matchers.h"
#include "tests/support/record_samples.h"

namespace sallyport::test {
namespace {

using namespace api;

template <class Message, class Parse>
Bytes expect_same(const Message& message, Parse parse) {
  const Bytes bytes = encode(message);
  const auto again = parse(ByteView{bytes});
  EXPECT_THAT(again, Succeeds()) << as_text(bytes);
  if (again.has_value()) {
    EXPECT_EQ(as_text(encode(*again)), as_text(bytes));
  }
  // One form alone: cut, longer, or with white space it is none.
  EXPECT_THAT(parse(ByteView{bytes}.first(bytes.size() - 1)), FailsWith(Code::kMalformed));
  Bytes longer = bytes;
  longer.push_back(' ');
  EXPECT_THAT(parse(ByteView{longer}), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse(as_bytes("{}")), FailsWith(Code::kMalformed));
  return bytes;
}

CaseView sample_view() {
  CaseView view;
  view.approvals = {{"alice@corp.example", true, 7, UnixMillis{1'790'000'000'000}}};
  view.case_id = CaseId{ByteArray<16>{1, 2, 3}};
  view.expires = UnixMillis{1'790'000'000'001};
  view.kind = "access";
  view.may = "us-oncall";
  view.opened = UnixMillis{1'790'000'000'000};
  view.person = view.beneficiary = "erin@corp.example";
  view.resource = "user-db";
  view.host = "db-7";
  view.account = "dbadmin";
  view.reason = "INC-4711";
  view.rule = "us-oncall-to-user-db";
  view.quorum = {{"us-oncall", 1, 2, {"alice@corp.example"}}};
  view.state = "open";
  view.to_approve = std::string(64, 'a');
  return view;
}

TEST(ApiMessages, BringTheLargestDossierAndCertificate) {
  const Activated largest{Bytes(64u << 10, 1), Bytes(record::kMaxFullDossierBytes, 2)};
  const Bytes message = encode(largest);
  EXPECT_LE(message.size(), kMaxMessageBytes);
  const auto back = parse_activated(message);
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->dossier, largest.dossier);
}

TEST(ApiMessages, EveryMessageHasOneFormAndComesBackAsItWas) {
  expect_same(ErrorMessage{"", Reason::kRegionRequester, "not from there"}, parse_error_message);
  expect_same(ErrorMessage{std::string(32, 'a'), Reason::kDenied, ""}, parse_error_message);
  expect_same(Hello{"", Nonce{ByteArray<32>{1}}, "us.corp.example/log/1", UnixMillis{5}}, parse_hello);
  expect_same(Attest{DeviceId{Digest256{ByteArray<32>{1}}}, Nonce{ByteArray<32>{2}}, Bytes(100, 3)},
              parse_attest);
  expect_same(Submitted{CaseId{ByteArray<16>{1}}, std::nullopt, "", 3, 4, "open"}, parse_submitted);
  expect_same(Submitted{CaseId{ByteArray<16>{1}}, Reason::kPolicyNoRule, "no rule", 3, 4, "refused"},
              parse_submitted);
  expect_same(Activated{Bytes(10, 1), Bytes(20, 2)}, parse_activated);
  expect_same(LeaseAsk{Bytes(10, 1), 30, Bytes(32, 2)}, parse_lease_ask);
  expect_same(Leased{10, crypto::Signature64{1, 2, 3}}, parse_leased);
  expect_same(Challenge{Bytes(10, 1), Bytes(20, 2), 0}, parse_challenge);
  expect_same(std::vector<Challenge>{{Bytes(10, 1), Bytes(20, 2), 1}, {Bytes(10, 3), Bytes(20, 4), 2}},
              parse_challenges);
  expect_same(std::vector<CaseView>{sample_view(), sample_view()}, parse_case_list);

  CaseView view = sample_view();
  view.entries = {{3, sample_entry(record::Kind::kDenial,
                                   record::encode_envelope(sample_envelope(
                                       sample_statement("denial"),
                                       crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256))))}};
  view.entries[0].entry.blobs.clear();
  expect_same(view, parse_case_view);
  view.code = Reason::kPolicyNoRule;
  expect_same(view, parse_case_view);
}

TEST(ApiMessages, ALeaseIsAskedForWithinItsBounds) {
  const auto with = [](std::uint64_t seconds, std::size_t nonce, std::size_t content) {
    return parse_lease_ask(encode(LeaseAsk{Bytes(content, 1), seconds, Bytes(nonce, 2)}));
  };
  EXPECT_THAT(with(1, 32, 10), Succeeds());
  EXPECT_THAT(with(30, 32, 64 << 10), Succeeds());
  EXPECT_THAT(with(0, 32, 10), FailsWith(Code::kMalformed));
  EXPECT_THAT(with(31, 32, 10), FailsWith(Code::kMalformed));
  EXPECT_THAT(with((1ull << 32) + 5, 32, 10), FailsWith(Code::kMalformed));
  EXPECT_THAT(with(10, 31, 10), FailsWith(Code::kMalformed));
  EXPECT_THAT(with(10, 33, 10), FailsWith(Code::kMalformed));
  EXPECT_THAT(with(10, 32, (64 << 10) + 1), FailsWith(Code::kMalformed));
}

TEST(ApiMessages, AFieldIsTheOneThatWasAskedFor) {
  EXPECT_EQ(value_of(parse_field(encode_field("answer", "x"), "answer", 64)), "x");
  EXPECT_THAT(parse_field(encode_field("answer", "x"), "person", 64), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_field(encode_field("answer", std::string(65, 'x')), "answer", 64),
              FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_field(as_bytes(R"({"answer":"x","answer":"y"})"), "answer", 64),
              FailsWith(Code::kMalformed));
  EXPECT_EQ(value_of(parse_notes(encode_notes({"one", "two"}))), (std::vector<std::string>{"one", "two"}));
}

}  // namespace
}  // namespace sallyport::test
