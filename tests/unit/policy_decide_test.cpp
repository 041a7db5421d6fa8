#include "attestation/policy/decide.h"

#include "tests/support/matchers.h"
#include "tests/support/sample_policy.h"

namespace sallyport::policy {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using test::FailsWith;
using test::SampleCompany;
using test::SamplePolicy;
using test::Succeeds;
using test::value_of;
using testing::ElementsAre;
using testing::HasSubstr;

const SampleCompany& company() {
  static const SampleCompany kCompany;
  return kCompany;
}

Policy sample(const std::function<void(SamplePolicy&)>& change = {}) {
  SamplePolicy policy = company().policy;
  if (change) change(policy);
  return value_of(parse_policy(policy.toml()));
}

PersonId id(std::string_view name) {
  return PersonId{SampleCompany::id(name)};
}

DecisionInputs ask(std::string_view who, std::string_view for_whom = "") {
  return {.requester = id(who),
          .beneficiary = id(for_whom.empty() ? who : for_whom),
          .resource = ResourceId{"user-db"},
          .host = "db-7",
          .account = "",
          .device_region = RegionId{"us"},
          .network_region = RegionId{"us"}};
}
DecisionInputs as(DecisionInputs inputs, std::string account) {
  inputs.account = std::move(account);
  return inputs;
}

Decision granted(const Policy& policy, const DecisionInputs& inputs, const Roster& roster = {}) {
  return value_of(decision_or_error(decide(policy, inputs, roster)));
}
Refusal refused(const Policy& policy, const DecisionInputs& inputs, const Roster& roster = {}) {
  const Outcome outcome = decide(policy, inputs, roster);
  if (const auto* refusal = std::get_if<Refusal>(&outcome)) return *refusal;
  ADD_FAILURE() << "was granted";
  return {Reason::kInternal, RuleId{}, "", std::nullopt};
}

TEST(Decide, GivesTheRulesFirstAccountToWhomItNames) {
  const Decision d = granted(sample(), ask("erin"));
  EXPECT_THAT(d.rules, ElementsAre(RuleId{"us-oncall-to-user-db"}));
  EXPECT_EQ(d.resource.get(), "user-db");
  EXPECT_EQ(d.host, "db-7");
  EXPECT_EQ(d.account, "dbadmin");
  EXPECT_EQ(d.duration, minutes{15});
  EXPECT_EQ(d.command, "");
  EXPECT_TRUE(d.record);
  EXPECT_EQ(d.quorum, (Quorum{{GroupId{"us-oncall"}, 2}, {GroupId{"privacy"}, 1}}));
  EXPECT_EQ(d.approver, (ApproverCondition{{RegionId{"us"}}, true, true}));
  EXPECT_EQ(d.requester_region.get(), "us");
  EXPECT_EQ(d.beneficiary_region.get(), "us");
  EXPECT_EQ(d.device_region.get(), "us");
  EXPECT_EQ(d.network_region.get(), "us");
}

TEST(Decide, GivesANamedAccountOfTheRule) {
  const Policy policy = sample([](auto& p) { p.rules[0].accounts = {"dbadmin", "backup"}; });
  EXPECT_EQ(granted(policy, as(ask("erin"), "backup")).account, "backup");
  EXPECT_EQ(granted(policy, as(ask("erin"), "dbadmin")).account, "dbadmin");
  EXPECT_EQ(granted(policy, ask("erin")).account, "dbadmin");
  EXPECT_EQ(refused(policy, as(ask("erin"), "root")).reason, Reason::kPolicyAccount);
}

TEST(Decide, GivesAForeignRequesterOnlyTheLimitedCredential) {
  const Decision d = granted(sample(), ask("wei"));
  EXPECT_THAT(d.rules, ElementsAre(RuleId{"foreign-read-only"}));
  EXPECT_EQ(d.account, "readonly");
  EXPECT_EQ(d.duration, minutes{5});
  EXPECT_EQ(d.command, "/usr/bin/db-masked-shell");
}

TEST(Decide, TellsAForeignRequesterWhichConditionFailedAndWhatIsLeft) {
  const Refusal r = refused(sample(), as(ask("wei"), "dbadmin"));
  EXPECT_EQ(r.reason, Reason::kRegionRequester);
  EXPECT_EQ(r.rule.get(), "us-oncall-to-user-db");
  EXPECT_EQ(r.detail,
            "dbadmin on user-db takes requesters of region us; wei@corp.example is registered in cn");
  ASSERT_TRUE(r.limited.has_value());
  EXPECT_EQ(r.limited->rule.get(), "foreign-read-only");
  EXPECT_EQ(r.limited->account, "readonly");
  EXPECT_EQ(r.limited->duration, minutes{5});
  EXPECT_EQ(r.limited->command, "/usr/bin/db-masked-shell");
  EXPECT_EQ(quorum_text(r.limited->quorum), "2 of us-oncall and 1 of us-legal");
}

TEST(Decide, OffersNothingWhereNothingIsLeft) {
  DecisionInputs inputs = as(ask("wei"), "dbadmin");
  inputs.device_region = RegionId{"cn"};
  EXPECT_FALSE(refused(sample(), inputs).limited.has_value());
}

// Each signal foreign, unknown, or missing.
struct Signal {
  const char* name;
  Reason reason;
  std::function<void(DecisionInputs&, const std::string&)> set;
};
TEST(Decide, RefusesEachForeignOrMissingSignal) {
  const Policy policy = sample();
  const Signal signals[] = {
      {"device", Reason::kRegionDevice, [](auto& in, auto& region) { in.device_region = RegionId{region}; }},
      {"network", Reason::kRegionNetwork,
       [](auto& in, auto& region) { in.network_region = RegionId{region}; }},
  };
  for (const Signal& signal : signals)
    for (const char* region : {"cn", "unknown", "", "US", "us "})
      for (const char* who : {"erin", "wei"}) {
        DecisionInputs inputs = ask(who);
        signal.set(inputs, region);
        const Refusal r = refused(policy, inputs);
        EXPECT_EQ(r.reason, signal.reason) << signal.name << " " << region << " " << who;
        EXPECT_EQ(reason_exit_code(r.reason), 6);
        EXPECT_FALSE(r.limited.has_value());
      }
}

TEST(Decide, RefusesARequesterOfARegionWithoutRule) {
  const Policy policy = sample([](auto& p) { p.rules.pop_back(); });
  const Refusal r = refused(policy, ask("wei"));
  EXPECT_EQ(r.reason, Reason::kRegionRequester);
  EXPECT_FALSE(r.limited.has_value());
}

TEST(Decide, TellsTheFirstOfSeveralFailingSignals) {
  DecisionInputs inputs = as(ask("wei"), "dbadmin");
  inputs.device_region = inputs.network_region = RegionId{"cn"};
  EXPECT_EQ(refused(sample(), inputs).reason, Reason::kRegionRequester);
  inputs = ask("erin");
  inputs.device_region = inputs.network_region = RegionId{"cn"};
  EXPECT_EQ(refused(sample(), inputs).reason, Reason::kRegionDevice);
}

TEST(Decide, ExplainsByTheClosestRule) {
  // wei's own rule fails by the network alone; the first rule fails by three conditions.
  DecisionInputs inputs = ask("wei");
  inputs.network_region = RegionId{"cn"};
  const Refusal r = refused(sample(), inputs);
  EXPECT_EQ(r.rule.get(), "foreign-read-only");
  EXPECT_EQ(r.reason, Reason::kRegionNetwork);
  EXPECT_EQ(r.detail,
            "readonly on user-db takes networks of region us; this connection comes from region cn");
}

TEST(Decide, RefusesWhoIsInNoneOfTheGroups) {
  const Refusal r = refused(sample(), ask("alice"));
  EXPECT_EQ(r.reason, Reason::kPolicyGroup);
  EXPECT_EQ(r.detail,
            "dbadmin on user-db takes members of db-oncall; alice@corp.example is in none of these groups");
  const Policy open = sample([](auto& p) { p.rules[0].requester_groups = {}; });
  EXPECT_EQ(granted(open, ask("alice")).account, "dbadmin");
}

TEST(Decide, PrefersARegionToAGroupAsReason) {
  DecisionInputs inputs = ask("alice");
  inputs.device_region = unknown_region();
  EXPECT_EQ(refused(sample(), inputs).reason, Reason::kRegionDevice);
}

TEST(Decide, KnowsTheRosterOfRequesters) {
  const Policy policy = sample([](auto& p) {
    p.roster = R"({ group = "leads", approvals = 1, may_fill = ["us-oncall", "db-oncall"] })";
  });
  EXPECT_EQ(granted(policy, ask("erin"), {{{GroupId{"db-oncall"}, {id("erin")}}}}).account, "dbadmin");
  EXPECT_EQ(refused(policy, ask("erin"), {{{GroupId{"db-oncall"}, {}}}}).reason, Reason::kPolicyGroup);
}

TEST(Decide, RefusesNamesThatThePolicyDoesNotHave) {
  const Policy policy = sample();
  EXPECT_EQ(refused(policy, ask("zoe", "erin")).reason, Reason::kPolicyUnknownPerson);
  DecisionInputs inputs = ask("erin");
  inputs.resource = ResourceId{"mail"};
  EXPECT_EQ(refused(policy, inputs).reason, Reason::kPolicyUnknownResource);
  for (const char* host : {"", "db-9", "user-db"}) {
    inputs = ask("erin");
    inputs.host = host;
    EXPECT_EQ(refused(policy, inputs).reason, Reason::kPolicyUnknownResource) << host;
  }
}

TEST(Decide, RefusesTheHostOfAnotherResource) {
  const Policy policy = sample([](auto& p) {
    p.resources.push_back({.id = "other", .hosts = {p.resources[0].hosts[1]}});
    p.resources[0].hosts.pop_back();
  });
  DecisionInputs inputs = ask("erin");
  inputs.host = "db-8";
  EXPECT_EQ(refused(policy, inputs).reason, Reason::kPolicyUnknownResource);
  inputs.resource = ResourceId{"other"};
  EXPECT_EQ(refused(policy, inputs).reason, Reason::kPolicyNoRule);
}

TEST(Decide, TakesASecretWithoutHostAndAccount) {
  const Policy policy = sample([](auto& p) {
    p.resources.push_back({.id = "api-key", .kind = "secret", .hosts = {}});
    test::SampleRule rule = p.rules[0];
    rule.id = "api", rule.resources = {"api-key"}, rule.accounts = {};
    p.rules.push_back(rule);
  });
  DecisionInputs inputs = ask("erin");
  inputs.resource = ResourceId{"api-key"};
  EXPECT_EQ(refused(policy, inputs).reason, Reason::kPolicyUnknownResource) << "names a host";
  inputs.host = "";
  EXPECT_EQ(granted(policy, inputs).account, "");
  EXPECT_EQ(refused(policy, as(inputs, "root")).reason, Reason::kPolicyAccount);
}

TEST(Decide, LetsTheFirstRuleDecide) {
  const auto with_second = [](std::vector<std::string> accounts, std::string duration) {
    return sample([&](auto& p) {
      test::SampleRule rule = p.rules[0];
      rule.id = "second", rule.accounts = std::move(accounts), rule.duration = duration;
      p.rules.push_back(rule);
    });
  };
  const Policy policy = with_second({"dbadmin", "root"}, "1h");
  EXPECT_EQ(granted(policy, ask("erin")).duration, minutes{15});
  EXPECT_EQ(granted(policy, as(ask("erin"), "dbadmin")).duration, minutes{15});
  // A later rule that would give the account does not decide; no condition of it failed, so the account is
  // the reason.
  const Refusal r = refused(policy, as(ask("erin"), "root"));
  EXPECT_EQ(r.reason, Reason::kPolicyAccount);
  EXPECT_EQ(r.rule.get(), "us-oncall-to-user-db");
  EXPECT_EQ(r.detail, "rule us-oncall-to-user-db gives dbadmin only on user-db");
  ASSERT_TRUE(r.limited.has_value());
  EXPECT_EQ(r.limited->account, "dbadmin");
}

TEST(Decide, TellsTheRegionEvenForAnAccountThatNoRuleGives) {
  EXPECT_EQ(refused(sample(), as(ask("erin"), "root")).reason, Reason::kPolicyAccount);
  DecisionInputs inputs = as(ask("erin"), "root");
  inputs.network_region = unknown_region();
  EXPECT_EQ(refused(sample(), inputs).reason, Reason::kRegionNetwork);
  EXPECT_EQ(refused(sample(), as(ask("alice"), "root")).reason, Reason::kPolicyAccount);
}

TEST(Decide, GivesTheWishedDurationUpToTheLimit) {
  const Policy policy = sample();
  DecisionInputs inputs = ask("erin");
  inputs.duration = seconds{1};
  EXPECT_EQ(granted(policy, inputs).duration, seconds{1});
  inputs.duration = minutes{15};
  EXPECT_EQ(granted(policy, inputs).duration, minutes{15});
  inputs.duration = minutes{15} + seconds{1};
  const Refusal r = refused(policy, inputs);
  EXPECT_EQ(r.reason, Reason::kPolicyDuration);
  EXPECT_EQ(r.detail, "rule us-oncall-to-user-db gives at most 15 min");
  ASSERT_TRUE(r.limited.has_value());
  EXPECT_EQ(r.limited->duration, minutes{15});
  inputs.duration = seconds{-1};
  EXPECT_EQ(refused(policy, inputs).reason, Reason::kPolicyDuration);
}

TEST(Decide, GivesWorkForAForeignColleagueTheColleaguesLimits) {
  const Decision d = granted(sample(), ask("erin", "wei"));
  EXPECT_THAT(d.rules, ElementsAre(RuleId{"us-oncall-to-user-db"}, RuleId{"foreign-read-only"}));
  EXPECT_EQ(d.account, "readonly");
  EXPECT_EQ(d.command, "/usr/bin/db-masked-shell");
  EXPECT_EQ(d.duration, minutes{5});
  EXPECT_EQ(d.quorum, (Quorum{{GroupId{"us-oncall"}, 2}, {GroupId{"privacy"}, 1}, {GroupId{"us-legal"}, 1}}));
  EXPECT_EQ(d.requester_region.get(), "us");
  EXPECT_EQ(d.beneficiary_region.get(), "cn");
}

TEST(Decide, RefusesTheFullAccountForAForeignColleague) {
  const Refusal r = refused(sample(), as(ask("erin", "wei"), "dbadmin"));
  EXPECT_EQ(r.reason, Reason::kRegionBeneficiary);
  EXPECT_EQ(r.detail,
            "dbadmin on user-db takes work for people of region us; wei@corp.example is registered in cn");
  ASSERT_TRUE(r.limited.has_value());
  EXPECT_EQ(r.limited->rule.get(), "foreign-read-only");
  EXPECT_EQ(r.limited->account, "readonly");
}

TEST(Decide, TakesABeneficiaryOfTheSameRegionAsTheRequester) {
  const Decision d = granted(sample(), ask("erin", "alice"));
  EXPECT_THAT(d.rules, ElementsAre(RuleId{"us-oncall-to-user-db"}));
  EXPECT_EQ(d.account, "dbadmin");
}

TEST(Decide, LetsAForeignRequesterGainNothingByADomesticBeneficiary) {
  const Refusal r = refused(sample(), as(ask("wei", "erin"), "dbadmin"));
  EXPECT_EQ(r.reason, Reason::kRegionRequester);
  // Without an account: wei's own run gives the limited rule; erin's region with wei's groups matches none.
  EXPECT_EQ(refused(sample(), ask("wei", "erin")).reason, Reason::kPolicyGroup);
  const Policy open = sample([](auto& p) { p.rules[0].requester_groups = {}; });
  const Decision d = granted(open, ask("wei", "erin"));
  EXPECT_THAT(d.rules, ElementsAre(RuleId{"foreign-read-only"}, RuleId{"us-oncall-to-user-db"}));
  EXPECT_EQ(d.account, "readonly");
  EXPECT_EQ(d.command, "/usr/bin/db-masked-shell");
  EXPECT_EQ(d.duration, minutes{5});
}

TEST(Decide, RefusesABeneficiaryWhoIsNotInThePolicy) {
  const Refusal r = refused(sample(), ask("erin", "stranger"));
  EXPECT_EQ(r.reason, Reason::kRegionBeneficiary);
  EXPECT_THAT(r.detail, HasSubstr("stranger@corp.example is not in the policy"));
  EXPECT_FALSE(r.limited.has_value());
  DecisionInputs nobody = ask("erin");
  nobody.beneficiary = PersonId{""};
  EXPECT_EQ(refused(sample(), nobody).reason, Reason::kRegionBeneficiary);
}

// The less favourable of two rules: a command beats no command, then the shorter duration.
struct Less {
  const char *us_command, *us_duration, *cn_command, *cn_duration;
  const char *account, *command;
  minutes duration;
};
TEST(Decide, TakesTheLessFavourableRule) {
  const Less table[] = {
      {"", "15m", "/bin/masked", "5m", "readonly", "/bin/masked", minutes{5}},
      {"", "15m", "/bin/masked", "60m", "readonly", "/bin/masked", minutes{15}},  // never longer than either
      {"/bin/one", "15m", "", "5m", "dbadmin", "/bin/one", minutes{5}},
      {"", "15m", "", "5m", "readonly", "", minutes{5}},
      {"", "5m", "", "15m", "dbadmin", "", minutes{5}},
      {"", "5m", "", "5m", "readonly", "", minutes{5}},  // of equals the beneficiary's
      {"/bin/one", "5m", "/bin/masked", "15m", "dbadmin", "/bin/one", minutes{5}},
      {"/bin/one", "15m", "/bin/masked", "5m", "readonly", "/bin/masked", minutes{5}},
  };
  for (const Less& row : table) {
    const Policy policy = sample([&](auto& p) {
      p.rules[0].command = row.us_command, p.rules[0].duration = row.us_duration;
      p.rules[1].command = row.cn_command, p.rules[1].duration = row.cn_duration;
    });
    const Decision d = granted(policy, ask("erin", "wei"));
    EXPECT_EQ(d.account, row.account) << &row - table;
    EXPECT_EQ(d.command, row.command) << &row - table;
    EXPECT_EQ(d.duration, row.duration) << &row - table;
  }
}

TEST(Decide, JoinsWhatBothRulesAskOfApprovers) {
  const Policy policy = sample([](auto& p) {
    p.rules[0].quorum = {{"us-oncall", 1}, {"privacy", 1}};
    p.rules[0].approver = "{ region = [\"us\", \"cn\"], other_team = false, attested = true }";
    p.rules[0].record = "off";
    p.rules[1].quorum = {{"us-legal", 1}, {"us-oncall", 3}};
    p.rules[1].approver = "{ region = [\"us\"], other_team = true, attested = false }";
    p.rules[1].record = "required";
    p.change = {{"security", 4}};
  });
  const Decision d = granted(policy, ask("erin", "wei"));
  EXPECT_EQ(d.quorum, (Quorum{{GroupId{"us-oncall"}, 3}, {GroupId{"privacy"}, 1}, {GroupId{"us-legal"}, 1}}));
  EXPECT_EQ(d.approver, (ApproverCondition{{RegionId{"us"}}, true, true}));
  EXPECT_TRUE(d.record);
}

TEST(Decide, LimitsTheWishByTheShorterRule) {
  const Policy policy = sample();
  DecisionInputs inputs = ask("erin", "wei");
  inputs.duration = minutes{5};
  EXPECT_EQ(granted(policy, inputs).duration, minutes{5});
  inputs.duration = minutes{6};
  EXPECT_EQ(refused(policy, inputs).reason, Reason::kPolicyDuration);
}

TEST(Decide, BecomesAnErrorWithTheSameReason) {
  EXPECT_THAT(decision_or_error(decide(sample(), ask("erin"))), Succeeds());
  const auto error = decision_or_error(decide(sample(), as(ask("wei"), "dbadmin")));
  ASSERT_THAT(error, FailsWith(Reason::kRegionRequester));
  EXPECT_EQ(error.error().code, Code::kDenied);
  EXPECT_EQ(exit_code_of(error.error()), 6);
}

TEST(Explain, ShowsEachRulesFirstFailingCondition) {
  const auto rules = explain(sample(), as(ask("wei"), "dbadmin"));
  ASSERT_EQ(rules.size(), 2U);
  EXPECT_EQ(rules[0].text, "rule us-oncall-to-user-db: requester.region is cn, rule takes us");
  EXPECT_FALSE(rules[0].matches);
  EXPECT_TRUE(rules[0].gives_account);
  ASSERT_EQ(rules[0].conditions.size(), 4U);
  EXPECT_FALSE(rules[0].conditions[0].holds);
  EXPECT_TRUE(rules[0].conditions[1].holds);
  EXPECT_TRUE(rules[0].conditions[2].holds);
  EXPECT_FALSE(rules[0].conditions[3].holds);
  EXPECT_EQ(rules[1].text, "rule foreign-read-only matches, but gives readonly only");
  EXPECT_TRUE(rules[1].matches);
  EXPECT_FALSE(rules[1].gives_account);
}

TEST(Explain, ShowsTheBeneficiarysRunWhereItDiffers) {
  const auto rules = explain(sample(), ask("erin", "wei"));
  ASSERT_EQ(rules.size(), 4U);
  EXPECT_FALSE(rules[0].as_beneficiary);
  EXPECT_TRUE(rules[0].matches);
  EXPECT_EQ(rules[0].text,
            "rule us-oncall-to-user-db matches: dbadmin, 15 min, needs 2 of us-oncall and 1 of privacy");
  EXPECT_TRUE(rules[2].as_beneficiary);
  EXPECT_EQ(rules[2].text, "rule us-oncall-to-user-db: beneficiary.region is cn, rule takes us");
  EXPECT_TRUE(rules[3].matches);
  EXPECT_TRUE(explain(sample(), ask("zoe")).empty());
}

TEST(Who, CountsThePeopleOfEachRule) {
  const auto rows =
      who(sample([](auto& p) { p.person("li@corp.example").tokens.clear(); }), ResourceId{"user-db"});
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].account, "dbadmin");
  EXPECT_EQ(rows[0].people, 1U);
  EXPECT_EQ(rows[0].whom, "1 person of us (group db-oncall)");
  EXPECT_EQ(rows[0].quorum, "2 of us-oncall and 1 of privacy");
  EXPECT_EQ(rows[1].account, "readonly");
  EXPECT_EQ(rows[1].people, 1U) << "li has no token and can ask for nothing";
  EXPECT_EQ(rows[1].command, "/usr/bin/db-masked-shell");
  EXPECT_TRUE(who(sample(), ResourceId{"mail"}).empty());
}

TEST(Text, SaysDurationsAndQuorums) {
  EXPECT_EQ(duration_text(seconds{90}), "90 s");
  EXPECT_EQ(duration_text(minutes{15}), "15 min");
  EXPECT_EQ(duration_text(std::chrono::hours{2}), "2 h");
  EXPECT_EQ(quorum_text({{GroupId{"a"}, 1}}), "1 of a");
  EXPECT_EQ(quorum_text({{GroupId{"a"}, 1}, {GroupId{"b"}, 2}, {GroupId{"c"}, 3}}),
            "1 of a, 2 of b and 3 of c");
}

}  // namespace
}  // namespace sallyport::policy
