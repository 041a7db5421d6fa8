#include "attestation/policy/quorum.h"

#include <algorithm>

#include "tests/support/matchers.h"
#include "tests/support/sample_policy.h"

namespace sallyport::policy {
namespace {

using test::FailsWith;
using test::SampleCompany;
using test::Succeeds;
using test::value_of;
using testing::ElementsAre;

const SampleCompany& company() {
  static const SampleCompany kCompany;
  return kCompany;
}
const Policy& policy() {
  static const Policy kPolicy = value_of(parse_policy(company().policy.toml()));
  return kPolicy;
}

PersonId id(std::string_view name) {
  return PersonId{SampleCompany::id(name)};
}

std::vector<CandidateApproval> by(std::initializer_list<const char*> names) {
  std::vector<CandidateApproval> out;
  for (const char* name : names) out.push_back({id(name), true});
  return out;
}

Quorum clauses(std::initializer_list<std::pair<const char*, unsigned>> wanted) {
  Quorum out;
  for (const auto& [group, approvals] : wanted) out.push_back({GroupId{group}, approvals});
  return out;
}

// The sample's first rule, asked by erin (team sre) for herself.
QuorumQuestion erins() {
  return {clauses({{"us-oncall", 2}, {"privacy", 1}}),
          {id("erin")},
          ApproverCondition{{RegionId{"us"}}, true, true}};
}

bool met(const QuorumQuestion& question, const std::vector<CandidateApproval>& approvals,
         const Roster& roster = {}) {
  return check_quorum(policy(), question, approvals, roster).met;
}

TEST(Quorum, IsMetByEnoughDistinctPeopleInAnyOrder) {
  std::vector<CandidateApproval> approvals = by({"alice", "bob", "dana"});
  const auto less = [](const CandidateApproval& a, const CandidateApproval& b) {
    return a.person < b.person;
  };
  std::sort(approvals.begin(), approvals.end(), less);
  do EXPECT_TRUE(met(erins(), approvals));
  while (std::next_permutation(approvals.begin(), approvals.end(), less));
  EXPECT_THAT(verify_quorum(policy(), erins(), approvals), Succeeds());
}

TEST(Quorum, IsNotMetByOneLess) {
  EXPECT_FALSE(met(erins(), by({})));
  EXPECT_FALSE(met(erins(), by({"alice", "bob"})));
  EXPECT_FALSE(met(erins(), by({"alice", "dana"})));
  EXPECT_THAT(verify_quorum(policy(), erins(), by({"alice", "bob"})), FailsWith(Reason::kQuorumNotMet));
  EXPECT_EQ(verify_quorum(policy(), erins(), by({"alice"})).error().what,
            "still needed: 1 of us-oncall, 1 of privacy");
}

TEST(Quorum, SaysWhoFillsWhichClauseAndWhatIsMissing) {
  const QuorumProgress progress = check_quorum(policy(), erins(), by({"alice", "dana"}));
  EXPECT_FALSE(progress.met);
  ASSERT_EQ(progress.clauses.size(), 2U);
  EXPECT_EQ(progress.clauses[0].group.get(), "us-oncall");
  EXPECT_EQ(progress.clauses[0].needed, 2U);
  EXPECT_EQ(progress.clauses[0].missing(), 1U);
  EXPECT_THAT(progress.clauses[0].filled_by, ElementsAre(id("alice")));
  EXPECT_EQ(progress.clauses[1].missing(), 0U);
  EXPECT_THAT(progress.clauses[1].filled_by, ElementsAre(id("dana")));
  EXPECT_EQ(progress.approvals[0].clause, 0U);
  EXPECT_EQ(progress.approvals[1].clause, 1U);
}

TEST(Quorum, CountsAPersonInTwoGroupsOnce) {
  // carol is in us-oncall and privacy.
  EXPECT_FALSE(met(erins(), by({"alice", "carol"})));
  EXPECT_FALSE(met(erins(), by({"carol", "dana"})));
  EXPECT_TRUE(met(erins(), by({"alice", "bob", "carol"})));
  EXPECT_TRUE(met(erins(), by({"carol", "alice", "dana"})));
  EXPECT_TRUE(met(erins(), by({"carol", "alice", "bob"})))
      << "carol, seated first as us-oncall, moves to privacy";
}

TEST(Quorum, CountsOnePersonOnTwoTokensOnce) {
  const QuorumProgress progress = check_quorum(policy(), erins(), by({"alice", "alice", "dana"}));
  EXPECT_FALSE(progress.met);
  EXPECT_EQ(progress.approvals[1].refused, Reason::kApprovalDuplicate);
  EXPECT_FALSE(progress.approvals[1].clause.has_value());
  EXPECT_THAT(verify_quorum(policy(), erins(), by({"alice", "bob", "dana", "dana"})),
              FailsWith(Reason::kApprovalDuplicate));
}

TEST(Quorum, TakesAnAttestedApprovalAfterOneThatWasNot) {
  const QuorumProgress progress = check_quorum(
      policy(), erins(), {{id("alice"), false}, {id("alice"), true}, {id("bob"), true}, {id("dana"), true}});
  EXPECT_EQ(progress.approvals[0].refused, Reason::kApprovalNotAttested);
  EXPECT_FALSE(progress.approvals[1].refused.has_value());
  EXPECT_TRUE(progress.met);
}

TEST(Quorum, ExcludesRequesterAndBeneficiary) {
  QuorumQuestion question = erins();
  question.excluded = {id("alice"), id("dana")};
  question.approver->other_team = false;
  const QuorumProgress progress =
      check_quorum(policy(), question, by({"alice", "dana", "bob", "carol", "mona"}));
  EXPECT_EQ(progress.approvals[0].refused, Reason::kApprovalSelf);
  EXPECT_EQ(progress.approvals[1].refused, Reason::kApprovalSelf);
  EXPECT_TRUE(progress.met) << "bob and mona as us-oncall, carol as privacy";
  EXPECT_FALSE(met(question, by({"alice", "dana", "bob", "carol"})));
}

TEST(Quorum, WantsAnotherTeamThanRequesterAndBeneficiary) {
  // mona is in team sre, as erin is.
  EXPECT_EQ(check_quorum(policy(), erins(), by({"mona"})).approvals[0].refused, Reason::kApprovalNotEligible);
  QuorumQuestion for_bob = erins();
  for_bob.excluded = {id("alice"), id("mona")};  // alice asks for mona
  EXPECT_TRUE(eligible_clauses(policy(), for_bob, id("erin")).empty());
  EXPECT_THAT(eligible_clauses(policy(), for_bob, id("bob")), ElementsAre(0U));
  QuorumQuestion any_team = erins();
  any_team.approver->other_team = false;
  EXPECT_THAT(eligible_clauses(policy(), any_team, id("mona")), ElementsAre(0U));
}

TEST(Quorum, WantsTheApproversRegion) {
  test::SamplePolicy sample = company().policy;
  sample.person("mona@corp.example").region = "cn";
  sample.person("mona@corp.example").team = "other";
  const Policy other = value_of(parse_policy(sample.toml()));
  EXPECT_EQ(why_not_eligible(other, erins(), id("mona"), true), Reason::kApprovalNotEligible);
  QuorumQuestion both = erins();
  both.approver->regions.push_back(RegionId{"cn"});
  EXPECT_EQ(why_not_eligible(other, both, id("mona"), true), std::nullopt);
  QuorumQuestion nobody = erins();
  nobody.approver->regions.clear();
  EXPECT_EQ(why_not_eligible(other, nobody, id("bob"), true), Reason::kApprovalNotEligible);
}

TEST(Quorum, WantsAnAttestedMachineWhereTheRuleSaysSo) {
  std::vector<CandidateApproval> approvals = by({"alice", "bob", "dana"});
  approvals[2].attested = false;
  EXPECT_FALSE(met(erins(), approvals));
  EXPECT_THAT(verify_quorum(policy(), erins(), approvals), FailsWith(Reason::kApprovalNotAttested));
  QuorumQuestion anywhere = erins();
  anywhere.approver->attested = false;
  EXPECT_TRUE(met(anywhere, approvals));
}

TEST(Quorum, RefusesWhoIsInNoGroupOfItAndWhoIsUnknown) {
  const QuorumProgress progress = check_quorum(policy(), erins(), by({"frank", "zoe", "alice"}));
  EXPECT_EQ(progress.approvals[0].refused, Reason::kApprovalNotEligible);
  EXPECT_EQ(progress.approvals[1].refused, Reason::kApprovalNotEligible);
  EXPECT_FALSE(progress.approvals[2].refused.has_value());
}

TEST(Quorum, LeavesWhoIsNotNeededWithoutAPlace) {
  const QuorumProgress progress = check_quorum(policy(), erins(), by({"alice", "bob", "dana", "carol"}));
  EXPECT_TRUE(progress.met);
  EXPECT_FALSE(progress.approvals[3].refused.has_value());
  EXPECT_FALSE(progress.approvals[3].clause.has_value());
  EXPECT_EQ(progress.clauses[0].filled_by.size(), 2U);
  EXPECT_EQ(progress.clauses[1].filled_by.size(), 1U);
}

TEST(Quorum, AppliesTheRoster) {
  const Roster duty{{{GroupId{"us-oncall"}, {id("alice"), id("carol")}}}};
  EXPECT_TRUE(met(erins(), by({"alice", "carol", "dana"}), duty));
  EXPECT_FALSE(met(erins(), by({"alice", "bob", "dana"}), duty));
  EXPECT_EQ(why_not_eligible(policy(), erins(), id("bob"), true, duty), Reason::kApprovalNotEligible);
}

TEST(Quorum, OfAControlCaseAsksForGroupsOnly) {
  const QuorumQuestion change{policy().authority.change, {}, std::nullopt};
  const std::vector<CandidateApproval> approvals{
      {id("grace"), false}, {id("heidi"), false}, {id("judy"), false}};
  EXPECT_TRUE(met(change, approvals)) << "of one team, and from no attested machine";
  EXPECT_FALSE(met(change, {{id("grace"), false}, {id("heidi"), false}, {id("alice"), false}}));
}

TEST(Quorum, OfNobodyIsNeverMet) {
  EXPECT_FALSE(met({{}, {}, std::nullopt}, by({"alice"})));
  EXPECT_FALSE(met({clauses({{"us-oncall", 0}}), {}, std::nullopt}, by({"alice"})));
  EXPECT_FALSE(can_fill(policy(), {{}, {}, std::nullopt}));
}

// A company in which the groups overlap in a chain: p0 in g0 and g1, p1 in g1 and g2, … Seating needs long
// augmenting paths.
Policy chain(unsigned length) {
  SampleCompany c;
  for (unsigned i = 0; i < length; ++i)
    c.add_person("p" + std::to_string(i), "us", "t" + std::to_string(i),
                 {"g" + std::to_string(i), "g" + std::to_string(i + 1)});
  c.add_person("last", "us", "last", {"g0"});
  return value_of(parse_policy(c.policy.toml()));
}

TEST(Quorum, FindsTheOneMatchingAlongAChain) {
  constexpr unsigned kLength = 16;
  const Policy policy = chain(kLength);
  QuorumQuestion question{{}, {}, std::nullopt};
  for (unsigned i = 0; i <= kLength; ++i) question.quorum.push_back({GroupId{"g" + std::to_string(i)}, 1});
  std::vector<CandidateApproval> approvals;
  for (unsigned i = 0; i < kLength; ++i) approvals.push_back({id("p" + std::to_string(i)), false});
  const QuorumProgress before = check_quorum(policy, question, approvals);
  EXPECT_FALSE(before.met);
  // "last" can only fill g0, which p0 holds: everybody has to move up by one.
  approvals.push_back({id("last"), false});
  const QuorumProgress after = check_quorum(policy, question, approvals);
  EXPECT_TRUE(after.met);
  for (unsigned i = 0; i <= kLength; ++i)
    EXPECT_THAT(after.clauses[i].filled_by, ElementsAre(id(i == 0 ? "last" : "p" + std::to_string(i - 1))));
  EXPECT_TRUE(can_fill(policy, question));
  question.excluded = {id("p7")};
  EXPECT_FALSE(can_fill(policy, question));
}

// Compares with trying every assignment, over all subsets of the sample's approvers and many quorums.
bool met_by_brute_force(const Quorum& quorum, const std::vector<PersonId>& people) {
  std::vector<std::size_t> places;
  for (std::size_t c = 0; c < quorum.size(); ++c) places.insert(places.end(), quorum[c].approvals, c);
  if (places.empty() || people.size() < places.size()) return false;
  std::vector<PersonId> order = people;
  std::sort(order.begin(), order.end());
  do {
    bool good = true;
    for (std::size_t i = 0; good && i < places.size(); ++i)
      good = is_member(*find_person(policy(), order[i]), quorum[places[i]].group);
    if (good) return true;
  } while (std::next_permutation(order.begin(), order.end()));
  return false;
}

TEST(Quorum, AgreesWithBruteForce) {
  const std::vector<const char*> names{"alice", "bob", "carol", "dana", "mona"};
  std::size_t cases = 0, satisfied = 0;
  for (unsigned oncall = 0; oncall <= 3; ++oncall)
    for (unsigned privacy = 0; privacy <= 2; ++privacy)
      for (unsigned legal = 0; legal <= 1; ++legal)
        for (unsigned leads = 0; leads <= 1; ++leads) {
          Quorum quorum;
          for (const auto& [group, n] :
               {std::pair{"us-oncall", oncall}, {"privacy", privacy}, {"us-legal", legal}, {"leads", leads}})
            if (n > 0) quorum.push_back({GroupId{group}, n});
          for (unsigned subset = 0; subset < 1U << names.size(); ++subset) {
            std::vector<PersonId> people;
            std::vector<CandidateApproval> approvals;
            for (std::size_t i = 0; i < names.size(); ++i)
              if ((subset >> i & 1U) != 0)
                people.push_back(id(names[i])), approvals.push_back({id(names[i]), false});
            const bool expected = met_by_brute_force(quorum, people);
            EXPECT_EQ(met({quorum, {}, std::nullopt}, approvals), expected);
            ++cases, satisfied += expected ? 1 : 0;
          }
        }
  EXPECT_EQ(cases, 48U * 32U);
  EXPECT_GT(satisfied, 100U);
}

}  // namespace
}  // namespace sallyport::policy
