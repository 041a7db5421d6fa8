#include "attestation/record/statements.h"

#include <gtest/gtest.h>

#include "attestation/record/canonical_json.h"
#include "tests/support/matchers.h"
#include "tests/support/record_samples.h"

namespace sallyport::record {
namespace {

using json::Member;
using json::Value;
using test::FailsWith;
using test::sample_statement;
using test::sample_statements;
using test::SampleStatement;
using test::Succeeds;
using test::value_of;

Value tree(const Bytes& payload) {
  return value_of(json::parse_canonical(payload, 1 << 20));
}

// with gives the payload with one member of the outer object replaced.
Bytes with(const SampleStatement& sample, std::string_view field, Value value) {
  std::vector<Member> members = *tree(sample.payload).as_object();
  for (Member& m : members)
    if (m.name == field) m.value = std::move(value);
  return json::encode_canonical(Value::object(std::move(members)));
}
Result<Bytes> changed(std::string_view statement, std::string_view field, Value value) {
  const SampleStatement& sample = sample_statement(statement);
  const Bytes payload = with(sample, field, std::move(value));
  auto again = sample.again(payload);
  if (again.has_value()) {
    EXPECT_EQ(as_text(*again), as_text(payload));
  }
  return again;
}

// variants gives every tree that differs from `value` in the shape of one place: a member left out, one
// added, or a value of another type.
void variants(const Value& value, const std::function<void(Value)>& emit) {
  if (value.as_string() == nullptr) emit(Value{"text"});
  if (value.as_integer() == nullptr) emit(Value{std::uint64_t{7}});
  if (value.as_bool() == nullptr) emit(Value{true});
  if (value.as_array() == nullptr) emit(Value{Value::Array{}});
  if (value.as_object() == nullptr) emit(Value::object({}));
  if (const auto* members = value.as_object()) {
    for (std::size_t i = 0; i < members->size(); ++i) {
      std::vector<Member> fewer = *members;
      fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
      emit(Value::object(std::move(fewer)));
      variants((*members)[i].value, [&](Value inner) {
        std::vector<Member> other = *members;
        other[i].value = std::move(inner);
        emit(Value::object(std::move(other)));
      });
    }
    std::vector<Member> more = *members;
    more.push_back({"unknown", Value{"x"}});
    emit(Value::object(std::move(more)));
  }
  if (const auto* items = value.as_array()) {
    for (std::size_t i = 0; i < items->size(); ++i)
      variants((*items)[i], [&](Value inner) {
        Value::Array other = *items;
        other[i] = std::move(inner);
        emit(Value{std::move(other)});
      });
  }
}

TEST(Statements, GiveBackWhatTheyAccept) {
  for (const SampleStatement& sample : sample_statements()) {
    const auto again = sample.again(sample.payload);
    ASSERT_THAT(again, Succeeds()) << sample.name;
    EXPECT_EQ(as_text(*again), as_text(sample.payload)) << sample.name;
  }
}

TEST(Statements, RefuseEveryMissingUnknownAndMistypedField) {
  for (const SampleStatement& sample : sample_statements()) {
    std::size_t tried = 0;
    variants(tree(sample.payload), [&](Value other) {
      const Bytes payload = json::encode_canonical(other);
      EXPECT_THAT(sample.again(payload), FailsWith(Code::kMalformed))
          << sample.name << ": " << as_text(payload);
      ++tried;
    });
    EXPECT_GT(tried, 15u) << sample.name;
  }
}

TEST(Statements, RefuseThePayloadOfEveryOtherKind) {
  for (const SampleStatement& mine : sample_statements())
    for (const SampleStatement& other : sample_statements())
      if (mine.name != other.name) {
        EXPECT_THAT(mine.again(other.payload), FailsWith(Code::kMalformed))
            << mine.name << " as " << other.name;
      }
}

TEST(Statements, RefuseEveryTruncationAndTrailingByte) {
  for (const SampleStatement& sample : sample_statements()) {
    for (std::size_t size = 0; size < sample.payload.size(); ++size)
      EXPECT_THAT(sample.again(ByteView{sample.payload}.first(size)), FailsWith(Code::kMalformed));
    Bytes longer = sample.payload;
    longer.push_back('\n');
    EXPECT_THAT(sample.again(longer), FailsWith(Code::kMalformed));
  }
}

TEST(Statements, BoundTexts) {
  EXPECT_THAT(changed("request", "person", std::string(128, 'p')), Succeeds());
  EXPECT_THAT(changed("request", "person", std::string(129, 'p')), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("request", "person", ""), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("request", "account", ""), Succeeds());
  EXPECT_THAT(changed("decision", "account", ""), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("decision", "command", "/usr/bin/db-masked-shell --ro"), Succeeds());
  EXPECT_THAT(changed("request", "reason", std::string(1024, 'r')), Succeeds());
  EXPECT_THAT(changed("request", "reason", std::string(1025, 'r')), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("denial", "reason", ""), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("request", "authority", std::string(200, 'o')), Succeeds());
  EXPECT_THAT(changed("request", "authority", std::string(201, 'o')), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("session-opened", "address", std::string(65, '1')), FailsWith(Code::kMalformed));
}

TEST(Statements, RefuseTextThatCouldBeShownAsAnother) {
  for (const std::string_view bad : {"a\nb", "a\tb", "a\x1b[2Jb", "a\x7f", "a\xc2\x85", "a\xc2\x9b",
                                     "a\xe2\x80\xa8", "a\xe2\x80\xa9", "a\xe2\x80\xaa",
                                     "a\xe2\x80\xae"
                                     "b",
                                     "a\xe2\x81\xa6", "a\xe2\x81\xa9"}) {
    EXPECT_THAT(changed("request", "reason", bad), FailsWith(Code::kMalformed)) << bad;
    EXPECT_THAT(changed("request", "host", bad), FailsWith(Code::kMalformed)) << bad;
    EXPECT_THAT(changed("decision", "rules", Value::Array{Value{bad}}), FailsWith(Code::kMalformed)) << bad;
  }
  EXPECT_THAT(changed("request", "reason", std::string_view{"a\0b", 3}), FailsWith(Code::kMalformed));
  for (const std::string_view good :
       {"caf\xc3\xa9", "\xc2\xa0", "\xe2\x80\xa7\xe2\x80\xaf\xe2\x81\xa5", "\xf0\x9f\x98\x80", "~ !"})
    EXPECT_THAT(changed("request", "reason", good), Succeeds()) << good;
}

TEST(Statements, BoundNumbers) {
  const auto number = [](std::uint64_t n) { return Value{n}; };
  EXPECT_THAT(changed("lease", "expiration", number(1)), Succeeds());
  EXPECT_THAT(changed("lease", "expiration", number(30)), Succeeds());
  EXPECT_THAT(changed("lease", "expiration", number(0)), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("lease", "expiration", number(31)), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("session-opened", "channel", number(0)), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("session-closed", "channel", number(0)), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("request", "duration", number(0)), Succeeds());
  EXPECT_THAT(changed("request", "duration", number(86400)), Succeeds());
  EXPECT_THAT(changed("request", "duration", number(86401)), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("decision", "duration", number(0)), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("policy-proposed", "version", number(1)), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("request", "time", number(json::kMaxInteger)), Succeeds());
}

TEST(Statements, TakeOnlyTheirClosedSets) {
  EXPECT_THAT(changed("request", "action", "exec"), FailsWith(Code::kMalformed));
  for (const std::string_view why : {"exit", "deadline", "revoked", "behind", "lost"})
    EXPECT_THAT(changed("session-closed", "why", why), Succeeds());
  EXPECT_THAT(changed("session-closed", "why", "other"), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("refusal", "code", "policy/no-rule"), Succeeds());
  EXPECT_THAT(changed("refusal", "code", "policy/other"), FailsWith(Code::kMalformed));
}

TEST(Statements, RevocationNamesATargetOfItsKind) {
  const std::string digest(64, 'a'), case_id(32, 'a');
  const auto revocation = [](const char* kind, const std::string& target) {
    const SampleStatement& sample = sample_statement("revocation");
    SampleStatement other = sample;
    other.payload = with(sample, "kind", kind);
    return sample.again(with(other, "target", target));
  };
  EXPECT_THAT(revocation("case", case_id), Succeeds());
  EXPECT_THAT(revocation("case", digest), FailsWith(Code::kMalformed));
  EXPECT_THAT(revocation("device", digest), Succeeds());
  EXPECT_THAT(revocation("device", case_id), FailsWith(Code::kMalformed));
  EXPECT_THAT(revocation("device", std::string(64, 'A')), FailsWith(Code::kMalformed));
  EXPECT_THAT(revocation("token", digest), Succeeds());
  EXPECT_THAT(revocation("token", "alice-yk1"), FailsWith(Code::kMalformed));
  EXPECT_THAT(revocation("person", "alice@corp.example"), Succeeds());
  EXPECT_THAT(revocation("everything", "x"), FailsWith(Code::kMalformed));
}

TEST(Statements, TakeOnlyCanonicalHexadecimalAndBase64) {
  EXPECT_THAT(changed("request", "nonce", std::string(64, 'A')), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("request", "nonce", ""), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("request", "nonce", std::string(62, 'a')), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("request", "case", std::string(30, 'a')), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("request", "key", "000b" + std::string(64, 'a')), Succeeds());
  EXPECT_THAT(changed("request", "key", "000c" + std::string(64, 'a')),
              FailsWith(Code::kMalformed));  // a SHA-384 Name
  EXPECT_THAT(changed("request", "key", std::string(64, 'a')), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("enrolment-requested", "ak", "AAE="), Succeeds());
  EXPECT_THAT(changed("enrolment-requested", "ak", "AAF="), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("enrolment-requested", "ak", ""), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("enrolment", "approvals", Value::Array{Value{"AAF="}}), FailsWith(Code::kMalformed));
}

TEST(Statements, ApprovalMayNameNoDevice) {
  EXPECT_THAT(changed("approval", "device", ""), Succeeds());
  EXPECT_THAT(changed("approval", "device", std::string(64, '0')), Succeeds());
  EXPECT_THAT(changed("approval", "device", std::string(63, '0')), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("approval", "device", std::string(64, 'F')), FailsWith(Code::kMalformed));
}

TEST(Statements, BoundLists) {
  const Value attachment =
      tree(sample_statement("request").payload).as_object()->at(2).value.as_array()->at(0);
  EXPECT_THAT(changed("request", "attachments", Value::Array{}), Succeeds());
  EXPECT_THAT(changed("request", "attachments", Value::Array(8, attachment)), Succeeds());
  EXPECT_THAT(changed("request", "attachments", Value::Array(9, attachment)), FailsWith(Code::kMalformed));
  const auto digests = [](std::size_t n) {
    Value::Array out;
    for (std::size_t i = 0; i < n; ++i) {
      std::string digest(62, '0');
      out.emplace_back(digest + "0123456789abcdef"[i / 16] + "0123456789abcdef"[i % 16]);
    }
    return out;
  };
  EXPECT_THAT(changed("grant", "approvals", digests(1)), Succeeds());
  EXPECT_THAT(changed("grant", "approvals", digests(64)), Succeeds());
  EXPECT_THAT(changed("grant", "approvals", digests(0)), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("grant", "approvals", digests(65)), FailsWith(Code::kMalformed));
  Value::Array twice = digests(1);
  twice.push_back(twice.front());
  EXPECT_THAT(changed("grant", "approvals", twice), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("decision", "rules", Value::Array{}), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("decision", "rules", Value::Array(2, Value{"r"})), Succeeds());
  EXPECT_THAT(changed("decision", "rules", Value::Array(3, Value{"r"})), FailsWith(Code::kMalformed));
  EXPECT_THAT(changed("decision", "quorum", Value::Array{}), FailsWith(Code::kMalformed));
  const Value no_one = Value::object({{"approvals", std::uint64_t{0}}, {"group", "g"}});
  EXPECT_THAT(changed("decision", "quorum", Value::Array{no_one}), FailsWith(Code::kMalformed));
}

TEST(Statements, AListOfApprovalsHasEachCaseOnceInOrder) {
  ListApproval list;
  list.approver = std::string(128, 'p');
  list.authority = std::string(200, 'o');
  list.time = list.expires = UnixMillis{json::kMaxInteger};
  const auto with_cases = [&](std::initializer_list<int> first_bytes) {
    list.entries.clear();
    for (const int byte : first_bytes)
      list.entries.push_back({CaseId{ByteArray<16>{static_cast<std::uint8_t>(byte)}}, Digest256{}});
    return parse_list_approval(encode(list));
  };
  EXPECT_THAT(with_cases({1, 2}), Succeeds());
  EXPECT_THAT(with_cases({2, 1}), FailsWith(Code::kMalformed));
  EXPECT_THAT(with_cases({1, 1}), FailsWith(Code::kMalformed));
  EXPECT_THAT(with_cases({1}), FailsWith(Code::kMalformed));
  EXPECT_THAT(with_cases({}), FailsWith(Code::kMalformed));
  for (const int count : {64, 65}) {
    list.entries.clear();
    for (int i = 0; i < count; ++i)
      list.entries.push_back({CaseId{ByteArray<16>{static_cast<std::uint8_t>(i)}}, Digest256{}});
    const Bytes payload = encode(list);
    EXPECT_EQ(parse_list_approval(payload).has_value(), count == 64) << count;
    EXPECT_THAT(parse_envelope(encode_envelope({payload_type(Kind::kListApproval), payload, {}})),
                Succeeds());
  }
}

TEST(Statements, AListApprovesInItsCasesWhatItSaysOfEach) {
  const SampleStatement& sample = sample_statement("list-approval");
  const Envelope list{sample.type, sample.payload, {}};
  const ListApproval whole = value_of(parse_list_approval(sample.payload));
  for (const ListedCase& one : whole.entries) {
    const Approval part = value_of(claimed_approval(list, one.case_id));
    EXPECT_EQ(part.case_id, one.case_id);
    EXPECT_EQ(part.decision, one.decision);
    EXPECT_EQ(part.approver, whole.approver);
    EXPECT_EQ(part.authority, whole.authority);
    EXPECT_EQ(part.expires, whole.expires);
    EXPECT_FALSE(part.device.has_value());
  }
  EXPECT_THAT(claimed_approval(list, CaseId{}), FailsWith(Reason::kApprovalOtherDecision));
  const SampleStatement& single = sample_statement("approval");
  const Approval approval = value_of(parse_approval(single.payload));
  EXPECT_EQ(encode(value_of(claimed_approval({single.type, single.payload, {}}, CaseId{}))),
            encode(approval));
  // The payload of one under the type of the other is neither.
  EXPECT_THAT(claimed_approval({single.type, sample.payload, {}}, whole.entries[0].case_id),
              FailsWith(Code::kMalformed));
  EXPECT_THAT(claimed_approval({sample.type, single.payload, {}}, approval.case_id),
              FailsWith(Code::kMalformed));
  const SampleStatement& denial = sample_statement("denial");
  EXPECT_THAT(claimed_approval({denial.type, denial.payload, {}}, approval.case_id),
              FailsWith(Code::kMalformed));
}

TEST(Statements, LargestDecisionFitsAGrantsEnvelope) {
  DecisionStatement decision = test::sample_decision();
  const std::string id(128, 'x');
  decision.account = decision.beneficiary = decision.host = decision.network = decision.person =
      decision.resource = id;
  decision.authority.assign(200, 'o');
  decision.command.assign(1024, 'c');
  decision.approver_region.assign(64, id);
  decision.quorum.assign(16, {64, id});
  decision.rules.assign(2, id);
  Grant grant;
  grant.authority = decision.authority;
  grant.decision = encode(decision);
  ASSERT_THAT(parse_decision(grant.decision), Succeeds());
  for (std::uint8_t i = 0; i < 64; ++i) grant.approvals.push_back(Digest256{ByteArray<32>{i}});
  const Bytes payload = encode(grant);
  ASSERT_THAT(parse_grant(payload), Succeeds());
  EXPECT_THAT(parse_envelope(encode_envelope({payload_type(Kind::kGrant), payload, {}})), Succeeds());
}

TEST(Statements, FirstPolicyHasNoProposalAndOthersHaveOne) {
  PolicyInForce first;
  first.authority = "origin";
  first.version = 1;
  EXPECT_THAT(parse_policy_in_force(encode(first)), Succeeds());
  PolicyInForce other = first;
  other.version = 2;
  EXPECT_THAT(parse_policy_in_force(encode(other)), FailsWith(Code::kMalformed));
  other.proposal = Bytes{1};
  EXPECT_THAT(parse_policy_in_force(encode(other)), FailsWith(Code::kMalformed));
  other.approvals = {Bytes{2}};
  EXPECT_THAT(parse_policy_in_force(encode(other)), Succeeds());
  other.version = 1;
  EXPECT_THAT(parse_policy_in_force(encode(other)), FailsWith(Code::kMalformed));
  other.proposal.clear();
  EXPECT_THAT(parse_policy_in_force(encode(other)), FailsWith(Code::kMalformed));
}

TEST(Kinds, AreAClosedSetWithTheirPayloadTypes) {
  std::size_t known = 0;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const auto kind = parse_kind(static_cast<std::uint8_t>(byte));
    EXPECT_EQ(kind.has_value(),
              (byte >= 1 && byte <= 13) || byte == 15 || byte == 16 || (byte >= 19 && byte <= 22))
        << byte;
    if (!kind.has_value()) continue;
    ++known;
    EXPECT_EQ(value_of(kind_of_payload_type(payload_type(*kind))), *kind);
    EXPECT_EQ(payload_type(*kind), sample_statement(kind_name(*kind)).type);
  }
  EXPECT_EQ(known, 19u);
  EXPECT_THAT(kind_of_payload_type(kDecisionType), FailsWith(Code::kMalformed));
  EXPECT_THAT(kind_of_payload_type(kTicketType), FailsWith(Code::kMalformed));
  EXPECT_THAT(kind_of_payload_type("application/vnd.sallyport.request.v2+json"), FailsWith(Code::kMalformed));
}

TEST(Kinds, ControlAndUnsignedAreThoseOfTheTable) {
  using enum Kind;
  for (const Kind kind :
       {kPolicy, kEnrolment, kRevocation, kDenial, kGrant, kSnapshot, kErasure, kHold, kHoldLifted})
    EXPECT_TRUE(is_control(kind));
  for (const Kind kind : {kPolicyProposed, kEnrolmentRequested, kRequest, kRefusal, kApproval, kLease,
                          kSessionOpened, kSessionClosed, kErasureProposed, kListApproval})
    EXPECT_FALSE(is_control(kind));
  for (const Kind kind : {kPolicy, kEnrolment, kRefusal, kGrant, kSnapshot, kErasure})
    EXPECT_TRUE(is_unsigned(kind));
  for (const Kind kind :
       {kPolicyProposed, kEnrolmentRequested, kRevocation, kRequest, kApproval, kDenial, kLease,
        kSessionOpened, kSessionClosed, kErasureProposed, kHold, kHoldLifted, kListApproval})
    EXPECT_FALSE(is_unsigned(kind));
}

}  // namespace
}  // namespace sallyport::record
