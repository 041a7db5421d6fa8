#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "attestation/base/hex.h"
#include "attestation/record/canonical_json.h"
#include "client/admin/commands.h"
#include "client/admin/devices.h"
#include "client/admin/policy_text.h"
#include "client/admin/target.h"
#include "client/connection/settings.h"
#include "client/terminal/render.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"
#include "tests/support/run_tool.h"

namespace sallyport::client::admin {
namespace {

using test::FailsWith;
using test::Ran;
using test::RecordScenario;
using test::Succeeds;
using test::value_of;
using testing::HasSubstr;
using testing::Not;

Ran run(std::vector<std::string> words) {
  return test::run_tool(std::move(words), {commands(), erasure_commands()});
}

// Office is an administrator's directory, with a draft and its roots in files.
class Office : public testing::Test {
 protected:
  RecordScenario world;
  test::TemporaryDirectory directory;
  std::string draft = (directory / "draft.toml").string(), roots = (directory / "roots.pem").string();

  Office() {
    write(draft, world.company.policy.toml()), write(roots, as_text(world.company.policy.tpm_roots));
  }

  ~Office() override { unsetenv("SALLYPORT_CONFIG"); }

  static void write(const std::string& path, std::string_view text) {
    std::ofstream out{path, std::ios::binary};
    out << text;
    ASSERT_TRUE(out.flush());
  }

  // The draft becomes the next version after the one in force.
  void make_successor() {
    world.company.policy.version = world.policy().policy.version + 1;
    world.company.policy.previous = world.policy().policy.digest;
    world.company.policy.rule("us-oncall-to-user-db").duration = "30m";
    write(draft, world.company.policy.toml());
  }

  // follow sets this machine up, as if it had followed the whole log.
  void follow() {
    Settings settings;
    settings.directory = directory / "config";
    settings.anchor = {world.origin(), world.genesis};
    settings.url = "https://127.0.0.1:1";
    settings.tcti = "none";
    setenv("SALLYPORT_CONFIG", settings.directory.c_str(), 1);
    value_of(save_settings(settings));
    value_of(follow::Follower::create(settings.follow_file(), settings.anchor));
    record::Batch batch;
    for (std::size_t i = 0; i < world.entries.size(); ++i) {
      const record::Entry& entry = world.entries[i];
      batch.leaves.push_back(entry.leaf);
      if (record::is_control(value_of(record::parse_kind(entry.leaf.kind))))
        batch.controls.push_back({LeafIndex{i}, entry});
    }
    batch.note = world.cosign();
    const auto follower = value_of(follow::Follower::open(settings.follow_file(), settings.anchor));
    value_of(follower->accept(batch));
  }
};

TEST_F(Office, ChecksADocument) {
  const Ran ran = run({"policy", "check", draft, "--roots", roots});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("version 1"));
  EXPECT_THAT(ran.out, HasSubstr("sha256:" + to_hex(world.genesis)));
  EXPECT_THAT(ran.out, HasSubstr(world.origin().get()));
  EXPECT_THAT(ran.out, HasSubstr("us-oncall-to-user-db"));
  EXPECT_THAT(ran.out, HasSubstr("needs 2 of us-oncall and 1 of privacy"));
  EXPECT_THAT(ran.out, HasSubstr("only \""));
  EXPECT_THAT(ran.out, HasSubstr("3 of security"));
  EXPECT_THAT(ran.out, HasSubstr("3 of 4"));  // witnesses
  EXPECT_THAT(ran.out, HasSubstr("\nloads\n"));
  EXPECT_THAT(run({"policy", "check", draft}).out, HasSubstr("were not judged"));
}

TEST_F(Office, SaysWhereADocumentIsWrong) {
  std::string text = world.company.policy.toml();
  const std::size_t at = text.find("duration = \"15m\"");
  ASSERT_NE(at, std::string::npos);
  text.replace(at, 16, "duration = \"99h\"");
  write(draft, text);
  const Ran ran = run({"policy", "check", draft, "--roots", roots});
  EXPECT_EQ(ran.exit, 3);
  EXPECT_EQ(ran.out, "");
  EXPECT_THAT(ran.err, HasSubstr("[policy/invalid]"));
  const auto line = std::to_string(1 + std::count(text.begin(), text.begin() + static_cast<long>(at), '\n'));
  EXPECT_THAT(ran.err, HasSubstr("line " + line));
  EXPECT_THAT(ran.err, HasSubstr("duration"));
}

TEST_F(Office, RefusesRootsThatTheDocumentDoesNotName) {
  const RecordScenario other;
  write(roots, as_text(other.company.policy.tpm_roots));
  const Ran ran = run({"policy", "check", draft, "--roots", roots});
  EXPECT_EQ(ran.exit, 3);
  EXPECT_THAT(ran.err, HasSubstr("[policy/invalid]"));
}

TEST_F(Office, SaysWhatIsMissingOnTheCommandLine) {
  EXPECT_EQ(run({"policy", "check"}).exit, 2);
  EXPECT_EQ(run({"policy", "check", (directory / "absent.toml").string()}).exit, 2);
  EXPECT_EQ(run({"policy", "explain", "--who", "erin@corp.example"}).exit, 2);
  EXPECT_EQ(run({"revoke", "castle", "x", "--reason", "y"}).exit, 2);
  EXPECT_EQ(run({"revoke", "person", "x"}).exit, 2);                         // no reason
  EXPECT_EQ(run({"erasure", "propose", "--before", "2026-01-01"}).exit, 2);  // no reason
  EXPECT_EQ(run({"erasure", "propose", "--before", "soon", "--reason", "y"}).exit, 2);
  EXPECT_EQ(run({"hold", "set", "--reason", "y"}).exit, 2);  // neither cases nor all
  EXPECT_EQ(run({"hold", "set", "--all", "--case", "c-7f3a90be", "--reason", "y"}).exit, 2);
  EXPECT_EQ(run({"hold", "lift", "c-7f3a90be"}).exit, 2);  // no reason
}

TEST_F(Office, GivesJsonThatParses) {
  const Ran ran = run({"policy", "check", draft, "-f", "json"});
  EXPECT_EQ(ran.exit, 0);
  ASSERT_FALSE(ran.out.empty());
  const std::string_view line{ran.out.data(), ran.out.size() - 1};
  EXPECT_THAT(record::json::parse_canonical(as_bytes(line), 1u << 20), Succeeds());
  EXPECT_THAT(ran.out, HasSubstr("\"digest\":\"" + to_hex(world.genesis) + "\""));
  // An error too, on stdout.
  const Ran wrong = run({"policy", "check", roots, "-f", "json"});
  EXPECT_EQ(wrong.exit, 3);
  EXPECT_THAT(wrong.out, HasSubstr("\"code\":\"policy/invalid\""));
}

TEST_F(Office, ComparesTwoDocuments) {
  const std::string before = (directory / "before.toml").string();
  write(before, world.company.policy.toml());
  make_successor();
  const Ran ran = run({"policy", "diff", draft, "--with", before});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("us-oncall-to-user-db   duration 15 min → 30 min"));
  EXPECT_THAT(ran.out, HasSubstr("and follows version 1"));
  const Ran back = run({"policy", "diff", before, "--with", draft});
  EXPECT_THAT(back.out, HasSubstr("but does not follow version 2"));
}

TEST_F(Office, ShowsThePolicyInForceWithoutAskingAnybody) {
  follow();
  const Ran ran = run({"policy", "show"});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("sha256:" + to_hex(world.genesis)));
  EXPECT_THAT(ran.err, HasSubstr("as of leaf "));
  EXPECT_EQ(run({"policy", "show", "--text"}).out, world.policy().policy.text);

  make_successor();
  const Ran diff = run({"policy", "diff", draft});
  EXPECT_EQ(diff.exit, 0) << diff.err;
  EXPECT_THAT(diff.out, HasSubstr("duration 15 min → 30 min"));
  EXPECT_THAT(diff.out, HasSubstr("3 of security, of version 1"));
}

TEST_F(Office, ExplainsRuleByRule) {
  const Ran refused = run({"policy", "explain", "--file", draft, "--who", "wei@corp.example", "--resource",
                           "user-db", "--as", "dbadmin", "--device-region", "us", "--from", "10.20.4.9"});
  EXPECT_EQ(refused.exit, 6) << refused.err;
  EXPECT_THAT(refused.out, HasSubstr("[region/requester]"));
  EXPECT_THAT(refused.out, HasSubstr("foreign-read-only"));
  EXPECT_THAT(refused.out, HasSubstr("rule       us-oncall-to-user-db: requester.region is cn"));
  EXPECT_THAT(refused.out, HasSubstr("fails  "));

  const Ran allowed = run({"policy", "explain", "--file", draft, "--who", "erin@corp.example", "--resource",
                           "db-7", "--from", "10.20.4.9"});
  EXPECT_EQ(allowed.exit, 0) << allowed.err;
  EXPECT_THAT(allowed.out, HasSubstr("as dbadmin for 15 min"));
  EXPECT_THAT(allowed.out, HasSubstr("once 2 of us-oncall and 1 of privacy have approved"));
  EXPECT_THAT(allowed.err, HasSubstr("assumed"));  // the machine's region was not given

  const Ran elsewhere = run({"policy", "explain", "--file", draft, "--who", "erin@corp.example", "--resource",
                             "db-7", "--from", "192.0.2.1"});
  EXPECT_EQ(elsewhere.exit, 6);
  EXPECT_THAT(elsewhere.out, HasSubstr("[region/network]"));

  const Ran json = run({"policy", "explain", "--file", draft, "--who", "wei@corp.example", "--resource",
                        "user-db", "--as", "dbadmin", "--from", "10.20.4.9", "-f", "json"});
  EXPECT_EQ(json.exit, 6);
  EXPECT_THAT(json.out, HasSubstr("\"allowed\":false"));
  EXPECT_THAT(json.out, HasSubstr("\"code\":\"region/requester\""));
}

TEST_F(Office, TellsWhoMayReachAResource) {
  const Ran ran = run({"policy", "who", "user-db", "--file", draft});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("dbadmin"));
  EXPECT_THAT(ran.out, HasSubstr("readonly"));
  EXPECT_EQ(run({"policy", "who", "moon", "--file", draft}).exit, 3);
}

// Park is the machines of a company, as an administrator's own follower knows them.
class Park : public testing::Test {
 protected:
  RecordScenario world;
  std::vector<record::Device> enrolled;

  DeviceId enrol(const std::string& name, const std::string& region = "us") {
    const DeviceId id = world.machine(name, region).device();
    remember(id);
    return id;
  }
  // Another machine of the same name: nothing keeps names apart.
  DeviceId enrol_namesake(const std::string& name) {
    test::SoftTpm tpm;
    RecordScenario::EnrolStep step;
    step.machine = name;
    const DeviceId id = value_of(world.enrol(tpm, step));
    remember(id);
    return id;
  }
  void remember(const DeviceId& id) { enrolled.push_back(*world.follower.find_device(id)); }
  void revoke(const DeviceId& id) { value_of(world.revoke(record::RevocationKind::kDevice, to_hex(id))); }
  Result<DeviceId> find(std::string_view typed) const {
    return find_device_id(typed, enrolled, world.follower);
  }
};

TEST_F(Park, FindsAMachineByItsNameItsIdOrTheBeginningOfIt) {
  const DeviceId laptop = enrol("laptop"), tower = enrol("tower", "cn");
  EXPECT_EQ(value_of(find("laptop")), laptop);
  EXPECT_EQ(value_of(find("tower")), tower);
  EXPECT_EQ(value_of(find(to_hex(tower))), tower);
  EXPECT_EQ(value_of(find(to_hex(tower).substr(0, 16))), tower);
  EXPECT_EQ(value_of(find(to_hex(tower).substr(0, 8))), tower);
}

TEST_F(Park, ListsTheMachinesWhenNoneIsCalledSo) {
  const DeviceId laptop = enrol("laptop"), old = enrol("old");
  revoke(old);
  for (const std::string& typed : {std::string{"lapto"}, std::string{"Laptop"}, std::string{},
                                   to_hex(laptop).substr(0, 7), std::string(64, 'f')}) {
    const auto found = find(typed);
    ASSERT_THAT(found, FailsWith(Reason::kDeviceUnknown)) << typed;
    EXPECT_EQ(exit_code_of(found.error()), 5);
    EXPECT_THAT(found.error().what, HasSubstr(to_hex(laptop) + "  laptop · us"));
    EXPECT_THAT(found.error().what, Not(HasSubstr(to_hex(old))));
  }
  enrolled.clear();
  EXPECT_THAT(find("laptop").error().what, Not(HasSubstr("enrolled")));
}

TEST_F(Park, RefusesANameOfSeveralAndListsThem) {
  const DeviceId one = enrol("laptop"), other = enrol_namesake("laptop"), tower = enrol("tower");
  const auto found = find("laptop");
  ASSERT_THAT(found, FailsWith(Reason::kUsage));
  EXPECT_EQ(exit_code_of(found.error()), 2);
  EXPECT_THAT(found.error().what, HasSubstr(to_hex(one)));
  EXPECT_THAT(found.error().what, HasSubstr(to_hex(other)));
  EXPECT_THAT(found.error().what, Not(HasSubstr(to_hex(tower))));
  EXPECT_EQ(value_of(find(to_hex(other))), other);
}

TEST_F(Park, ANameLikeTheIdOfAnotherMachineIsNotTakenForIt) {
  const DeviceId victim = enrol("laptop");
  enrol_namesake(to_hex(victim).substr(0, 12));
  EXPECT_THAT(find(to_hex(victim).substr(0, 12)), FailsWith(Reason::kUsage));
  EXPECT_EQ(value_of(find(to_hex(victim))), victim);
}

TEST_F(Park, TellsWhatBecameOfEachMachine) {
  const DeviceId live = enrol("laptop"), pooled = enrol("tower", "cn"), stolen = enrol("old"),
                 broken = enrol("scrap");
  value_of(world.revoke(record::RevocationKind::kLost, to_hex(stolen)));
  value_of(world.revoke(record::RevocationKind::kRetired, to_hex(pooled)));
  revoke(broken);
  EXPECT_EQ(state_of(world.follower, live), "live");
  EXPECT_EQ(state_of(world.follower, pooled), "retired");
  EXPECT_EQ(state_of(world.follower, stolen), "lost");
  EXPECT_EQ(state_of(world.follower, broken), "revoked");
  const std::string list = devices_text(world.follower);
  EXPECT_THAT(list,
              HasSubstr(to_hex(pooled).substr(0, 16) + "  tower · cn · retired · p256 · enrolled by leaf "));
  EXPECT_THAT(list, HasSubstr("laptop · us · live"));
  EXPECT_THAT(list, HasSubstr("old · us · lost"));
  EXPECT_THAT(list, HasSubstr("scrap · us · revoked"));
  EXPECT_THAT(device_text(world.follower, *world.follower.find_device(stolen), {}),
              HasSubstr("lost by leaf " + grouped(world.follower.find_lost(stolen)->get()) +
                        "; it is never enrolled again"));
  EXPECT_EQ(value_of(find("tower")), pooled);  // it can be shown, enrolled again, or be lost after all
  const std::string shown = device_text(world.follower, *world.follower.find_device(pooled), world.now);
  EXPECT_THAT(shown, HasSubstr("it can be enrolled again"));
  EXPECT_THAT(shown, HasSubstr(to_hex(pooled)));
  EXPECT_THAT(shown, HasSubstr(utc(world.now)));
}

TEST_F(Park, ANameMeansTheMachineThatIsNotRevoked) {
  const DeviceId old = enrol("laptop");
  revoke(old);
  const auto gone = find("laptop");
  ASSERT_THAT(gone, FailsWith(Reason::kDeviceRevoked));
  EXPECT_EQ(exit_code_of(gone.error()), 5);
  const DeviceId fresh = enrol_namesake("laptop");
  EXPECT_EQ(value_of(find("laptop")), fresh);
  EXPECT_EQ(value_of(find(to_hex(old))), old);  // whole ids mean what they say; the log judges
}

TEST_F(Park, EscapesWhatItRepeats) {
  enrol("laptop");
  EXPECT_THAT(find("\x1b[2J").error().what, Not(HasSubstr("\x1b")));
}

TEST(Admin, TellsItsVersion) {
  const Ran ran = run({"version"});
  EXPECT_EQ(ran.exit, 0);
  EXPECT_TRUE(ran.out.starts_with("sallyport 0."));
  EXPECT_THAT(run({"version", "-f", "json"}).out, HasSubstr("\"dossier\":\"spdossr1\""));
}

TEST(Admin, EscapesWhatItRepeats) {
  const Ran ran = run({"policy", "check", "\x1b[2J.toml"});
  EXPECT_EQ(ran.exit, 2);
  EXPECT_THAT(ran.err, Not(HasSubstr("\x1b")));
}

}  // namespace
}  // namespace sallyport::client::admin
