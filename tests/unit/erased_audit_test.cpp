// Exports of logs from which cases were erased: how they are made, grow, verify, and what is told of them.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>

#include <csignal>

#include "attestation/base/hex.h"
#include "client/auditor/case_table.h"
#include "client/auditor/commands.h"
#include "client/auditor/explain.h"
#include "client/auditor/monitor.h"
#include "client/auditor/tell.h"
#include "tests/support/export_world.h"
#include "tests/support/run_tool.h"

namespace sallyport::client::auditor {
namespace {

using record::Kind;
using test::FailsWith;
using test::OpenCase;
using test::RecordScenario;
using test::Succeeds;
using test::TemporaryDirectory;
using test::value_of;
using testing::HasSubstr;

constexpr std::chrono::hours kDay{24};

void may_erase(test::SampleCompany& company) {
  company.policy.erase = RecordScenario::kErase;
  company.policy.hold = "us-legal";
}

Bytes bytes_of(std::string_view text) {
  return to_bytes(as_bytes(text));
}

// Archive is a log with four old cases: one that was used, one that was refused, one that nobody decided, and
// one that stays. Two of them have an attachment in common, and `kept` has one of it.
struct Archive : World {
  OpenCase used, refused, expired, kept;
  Archive()
      : World{may_erase}, used{run()}, refused{run_refused()}, expired{run_expired()}, kept{run_kept()} {
    cosign();
    scenario.advance(10 * kDay);
  }
  // erase records an erasure, and the witnesses cosign it; the broker deletes.
  void erase(const std::vector<OpenCase>& cases, bool broker_too = true,
             const std::function<void(record::ErasureProposed&)>& edit = {}) {
    std::vector<CaseId> ids;
    for (const OpenCase& one : cases) ids.push_back(one.id);
    value_of(scenario.erase(ids, edit));
    if (broker_too) erased.insert(ids.begin(), ids.end());
    scenario.advance(std::chrono::minutes{1});
    scenario.request({});
    cosign();
  }
  std::vector<std::uint64_t> leaves_of(const OpenCase& open) const {
    std::vector<std::uint64_t> out;
    for (std::size_t i = 0; i < scenario.entries.size(); ++i)
      if (scenario.entries[i].leaf.case_id == open.id) out.push_back(i);
    return out;
  }
  static std::string blob(std::string_view content) { return blob_path(crypto::sha256(as_bytes(content))); }

 private:
  OpenCase run() {
    cosign();
    OpenCase open = scenario.request(
        {.attachments = {{"own.txt", bytes_of("only here")}, {"shared.txt", bytes_of("here and there")}}});
    scenario.approve_all(open);
    value_of(scenario.grant(open));
    cosign();
    value_of(scenario.append(Kind::kLease, open.id, scenario.lease(open)));
    value_of(scenario.append(Kind::kSessionOpened, open.id, scenario.session_opened(open, 1)));
    value_of(scenario.append(Kind::kSessionClosed, open.id, scenario.session_closed(open, 1)));
    scenario.advance(std::chrono::hours{2});
    return open;
  }
  OpenCase run_refused() {
    OpenCase open = scenario.request({.person = "wei", .account = "dbadmin"});
    refuse(open);
    return open;
  }
  OpenCase run_expired() {
    OpenCase open = scenario.request({.attachments = {{"both.txt", bytes_of("of two erased cases")}}});
    scenario.advance(std::chrono::hours{2});
    return open;
  }
  OpenCase run_kept() {
    OpenCase open = scenario.granted({.attachments = {{"again.txt", bytes_of("here and there")}}});
    scenario.advance(std::chrono::hours{2});
    return open;
  }
};

class ErasedAudit : public testing::Test {
 protected:
  TemporaryDirectory temporary;
  fs::path directory = temporary / "export";
  Exported write(World& world, const ExportOptions& options = {}) {
    return value_of(write_export(directory, world.anchor(), world, options));
  }
  bool is_there(const std::string& path) const { return fs::exists(directory / path); }
  bool is_there(std::uint64_t leaf) const { return is_there(body_path(LeafIndex{leaf})); }
  void expect_same_as_at_once(World& world) {
    const fs::path once = temporary / "once";
    fs::remove_all(once);
    value_of(write_export(once, world.anchor(), world));
    ASSERT_EQ(files_of(once), files_of(directory));
    for (const std::string& path : files_of(once))
      EXPECT_EQ(test::read_file(once / path), test::read_file(directory / path)) << path;
  }
};

TEST_F(ErasedAudit, VerifiesAndTellsWhatWasErasedByWhom) {
  Archive world;
  world.erase({world.used, world.refused});
  world.erase({world.expired});
  write(world);
  EXPECT_THAT(verify_both(directory, world.anchor()), Succeeds());
  const AuditReport report = value_of(verify_export(directory, world.anchor()));
  EXPECT_EQ(report.cases.access, 6u);
  EXPECT_EQ(report.cases.erased, 3u);
  EXPECT_EQ(report.cases.granted, 1u);
  EXPECT_EQ(report.cases.refused, 0u);
  EXPECT_EQ(report.cases.sessions, 0u);
  EXPECT_EQ(report.cases.expired, 0u);
  EXPECT_EQ(report.cases.open, 2u);
  EXPECT_EQ(report.cases.erasures, 2u);
  EXPECT_EQ(report.foreign_count, 0u);
  ASSERT_EQ(report.erased.size(), 2u);
  EXPECT_EQ(report.erased[0].cases, 2u);
  EXPECT_EQ(report.erased[0].leaves, world.leaves_of(world.used).size() + 2);
  EXPECT_EQ(report.erased[1].cases, 1u);
  EXPECT_EQ(report.erased[1].leaves, 1u);
  EXPECT_EQ(report.erased[0].erasure.what.person, test::SampleCompany::id("grace"));
  EXPECT_THAT(report.erased[0].erasure.approved_by,
              testing::ElementsAre(test::SampleCompany::id("grace"), test::SampleCompany::id("heidi"),
                                   test::SampleCompany::id("carol")));
  for (const OpenCase* gone : {&world.used, &world.refused, &world.expired})
    for (const std::uint64_t leaf : world.leaves_of(*gone)) EXPECT_FALSE(is_there(leaf)) << leaf;
  EXPECT_FALSE(is_there(Archive::blob("only here")));
  EXPECT_FALSE(is_there(Archive::blob("of two erased cases")));
  EXPECT_TRUE(is_there(Archive::blob("here and there")));
  EXPECT_FALSE(is_there(std::string{kErasingPath}));
}

TEST_F(ErasedAudit, IsTheSameWhetherTheBrokerHasErasedYetOrNot) {
  Archive world;
  world.erase({world.used, world.expired}, false);
  write(world);
  EXPECT_FALSE(is_there(world.leaves_of(world.used).front()));
  EXPECT_THAT(verify_both(directory, world.anchor()), Succeeds());
  world.erased = {world.used.id};
  expect_same_as_at_once(world);
  world.erased = {world.used.id, world.expired.id};
  expect_same_as_at_once(world);
  // While it erases, a reader may get half of a case.
  world.erased.clear();
  world.edit_page = [&](record::EntryPage& page) {
    for (record::Entry& entry : page.entries)
      if (entry.leaf.case_id == world.used.id && entry.leaf.predecessor != ledger::kNoPredecessor)
        entry = record::Entry{entry.leaf, {}, {}, {}};
  };
  expect_same_as_at_once(world);
}

TEST_F(ErasedAudit, AnExportThatGoesOnErasesWhatItHad) {
  Archive world;
  write(world);
  ASSERT_TRUE(is_there(world.leaves_of(world.used).front()));
  ASSERT_TRUE(is_there(Archive::blob("only here")));
  const std::size_t before = files_of(directory).size();
  world.erase({world.used, world.refused, world.expired});
  // Until then it is a true one, that ends before the erasure.
  EXPECT_THAT(verify_both(directory, world.anchor()), Succeeds());
  const Exported exported = write(world);
  EXPECT_GT(exported.erased, world.leaves_of(world.used).size() + 2);
  EXPECT_EQ(exported.to_erase, 0u);
  EXPECT_LT(files_of(directory).size(), before);
  EXPECT_THAT(verify_both(directory, world.anchor()), Succeeds());
  EXPECT_EQ(value_of(verify_export(directory, world.anchor())).pending, 0u);
  EXPECT_TRUE(is_there(Archive::blob("here and there")));
  expect_same_as_at_once(world);
  // Compared with a broker that has erased, and with one that has not yet.
  EXPECT_THAT(write_export(directory, world.anchor(), world, {.since = 0}), Succeeds());
  world.erased.clear();
  EXPECT_THAT(write_export(directory, world.anchor(), world, {.since = 0}), Succeeds());
  EXPECT_FALSE(is_there(world.leaves_of(world.used).front()));
  EXPECT_THAT(verify_both(directory, world.anchor()), Succeeds());
}

TEST_F(ErasedAudit, EvidenceOfTwoErasedCasesGoesWithTheSecond) {
  Archive world;
  write(world);
  world.erase({world.used});
  write(world);
  EXPECT_TRUE(is_there(Archive::blob("here and there")));
  EXPECT_THAT(verify_both(directory, world.anchor()), Succeeds());
  world.erase({world.kept});
  write(world);
  EXPECT_FALSE(is_there(Archive::blob("here and there")));
  EXPECT_THAT(verify_both(directory, world.anchor()), Succeeds());
  expect_same_as_at_once(world);
}

TEST_F(ErasedAudit, GoesInStepsOnlyToWhereItIsWhole) {
  Archive world;
  world.erase({world.used, world.refused, world.expired});
  std::set<std::uint64_t> sizes;
  write(world, {.step = 1, .before_change = [&]() -> Status {
                  if (!is_there(std::string{kManifestPath})) return Done{};
                  sizes.insert(head_of(directory).size.get());
                  EXPECT_THAT(verify(directory, world.anchor(), 0), Succeeds());
                  return Done{};
                }});
  EXPECT_THAT(sizes, testing::Contains(World::size_of(world.notes.front()).get()));
  EXPECT_THAT(sizes, testing::Contains(world.scenario.entries.size()));
  EXPECT_THAT(sizes, testing::Not(testing::Contains(World::size_of(world.notes[1]).get())));
  EXPECT_THAT(verify_both(directory, world.anchor()), Succeeds());
  expect_same_as_at_once(world);
}

// At every step the directory holds the export of before, or of after; what was stopped goes on to the same
// bytes, and nothing of what was erased is left.
TEST_F(ErasedAudit, StoppedAtAnyStepItIsTheExportOfBeforeOrOfAfter) {
  Archive world;
  const fs::path start = temporary / "start";
  value_of(write_export(start, world.anchor(), world));
  const std::uint64_t before = world.scenario.entries.size();
  const std::vector<std::uint64_t> gone = world.leaves_of(world.used);
  world.erase({world.used, world.refused, world.expired});
  std::size_t stops = 0, half_deleted = 0;
  for (bool done = false; !done; ++stops) {
    fs::remove_all(directory);
    fs::copy(start, directory, fs::copy_options::recursive);
    std::size_t changes = 0;
    const auto stopped = write_export(directory, world.anchor(), world, {.before_change = [&]() -> Status {
                                        if (changes++ < stops) return Done{};
                                        return Error{Code::kUnavailable, Reason::kStorage, "killed"};
                                      }});
    done = stopped.has_value();
    const auto report = verify_export(directory, world.anchor(), {.threads = 0});
    ASSERT_THAT(report, Succeeds()) << "stopped at change " << stops;
    ASSERT_TRUE(report->size.get() == before || report->erased.size() == 1u) << stops;
    if (report->size.get() == before)
      for (const std::uint64_t leaf : gone) ASSERT_TRUE(is_there(leaf)) << stops;
    else if (is_there(gone.back()) || is_there(gone.front()))
      ++half_deleted;
    const Exported again = write(world);
    EXPECT_EQ(again.to_erase, 0u);
    ASSERT_FALSE(is_there(std::string{kErasingPath}));
    for (const std::uint64_t leaf : gone) ASSERT_FALSE(is_there(leaf)) << stops;
    const AuditReport whole = value_of(verify_export(directory, world.anchor(), {.threads = 0}));
    ASSERT_EQ(whole.size.get(), world.scenario.entries.size());
    ASSERT_EQ(whole.pending, 0u);
  }
  EXPECT_GT(stops, 40u);
  EXPECT_GT(half_deleted, 5u);
  expect_same_as_at_once(world);
}

TEST_F(ErasedAudit, AKilledFirstExportLeavesNothingOfWhatWasErasedMeanwhile) {
  Archive world;
  const pid_t child = ::fork();
  if (child == 0) {
    std::size_t changes = 0;
    (void)write_export(directory, world.anchor(), world, {.before_change = [&]() -> Status {
                         if (++changes == 60) ::raise(SIGKILL);
                         return Done{};
                       }})
        .has_value();
    ::_exit(0);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  ASSERT_TRUE(is_there(world.leaves_of(world.used).front()));
  world.erase({world.used, world.refused, world.expired});
  write(world);
  EXPECT_FALSE(is_there(world.leaves_of(world.used).front()));
  EXPECT_FALSE(is_there(Archive::blob("only here")));
  EXPECT_EQ(value_of(verify_export(directory, world.anchor())).pending, 0u);
  expect_same_as_at_once(world);
}

TEST_F(ErasedAudit, WaitsForWhoReadsTheExportMeanwhile) {
  Archive world;
  write(world);
  const std::uint64_t leaf = world.leaves_of(world.used).front();
  world.erase({world.used});
  {
    ExportReader reader = value_of(ExportReader::open(directory));
    const Exported exported = write(world);
    EXPECT_EQ(exported.erased, 0u);
    EXPECT_GT(exported.to_erase, world.leaves_of(world.used).size());
    // The reader has all of the export that it began with, and who begins now has the new one.
    EXPECT_FALSE(record::is_erased(value_of(reader.entry(LeafIndex{leaf}))));
    ExportReader newer = value_of(ExportReader::open(directory));
    EXPECT_TRUE(record::is_erased(value_of(newer.entry(LeafIndex{leaf}))));
    const AuditReport report = value_of(verify_export(directory, world.anchor()));
    EXPECT_EQ(report.cases.erased, 1u);
    EXPECT_GE(report.pending, exported.to_erase);
  }
  const Exported after = write(world);
  EXPECT_GT(after.erased, world.leaves_of(world.used).size());
  EXPECT_FALSE(is_there(leaf));
  EXPECT_EQ(value_of(verify_export(directory, world.anchor())).pending, 0u);
}

TEST_F(ErasedAudit, NothingIsErasedOnTheWordOfABroker) {
  Archive world;
  write(world);
  const std::vector<std::string> files = files_of(directory);
  // A rooted broker logs an erasure that one person approved, of three, and the witnesses cosign.
  const CaseId id = value_of(world.scenario.propose_erasure({world.used.id}));
  value_of(world.scenario.approve(id, "grace"));
  const record::Case& one = world.scenario.state.cases.at(id);
  const record::Erasure forged{
      .approvals = {one.approvals.at(0).entry.body.empty()
                        ? Bytes{}
                        : value_of(record::parse_body(one.approvals.at(0).entry.body)).envelope},
      .authority = world.scenario.origin().get(),
      .case_id = id,
      .proposal = value_of(record::parse_body(one.opening.body)).envelope};
  const record::Entry entry = record::make_entry(
      Kind::kErasure, world.scenario.now, id, record::predecessor_of(world.scenario.state.control, id),
      record::encode_envelope({record::payload_type(Kind::kErasure), record::encode(forged), {}}), {},
      Nonce{});
  world.scenario.entries.push_back(entry);
  world.scenario.tree.append(ledger::leaf_hash(entry.leaf));
  world.cosign(4);
  world.erased = {world.used.id};
  const auto refused = write_export(directory, world.anchor(), world);
  ASSERT_THAT(refused, FailsWith(Code::kUnverified));
  EXPECT_THAT(refused.error().what, HasSubstr(body_path(world.scenario.last_index())));
  EXPECT_THAT(refused.error().what, HasSubstr(std::string{reason_name(Reason::kQuorumNotMet)}));
  for (const std::string& path : files) EXPECT_TRUE(is_there(path)) << path;
  EXPECT_THAT(verify_both(directory, world.anchor()), Succeeds());
  // Nor does an export help from which the bodies were taken by hand.
  world.erased.clear();
  const fs::path whole = temporary / "whole";
  EXPECT_FALSE(write_export(whole, world.anchor(), world).has_value());
}

TEST_F(ErasedAudit, ErasesNothingBeforeAQuorumOfWitnessesHasSeenTheErasure) {
  Archive world;
  write(world);
  const std::vector<std::string> files = files_of(directory);
  value_of(world.scenario.erase({world.used.id}));
  world.cosign(2);
  EXPECT_FALSE(write_export(directory, world.anchor(), world).has_value());
  for (const std::string& path : files) EXPECT_TRUE(is_there(path)) << path;
}

TEST_F(ErasedAudit, ABrokerThatLacksBodiesIsFoundOut) {
  Archive world;
  world.erased = {world.used.id};
  const auto exported = write_export(directory, world.anchor(), world);
  ASSERT_THAT(exported, FailsWith(Reason::kLogMissingBody));
  EXPECT_THAT(exported.error().what, HasSubstr(body_path(LeafIndex{world.leaves_of(world.used).front()})));
  EXPECT_FALSE(is_there(std::string{kManifestPath}));
  // An erasure of another case, or of an older one only, does not help.
  world.erase({world.refused});
  EXPECT_THAT(write_export(temporary / "b", world.anchor(), world), FailsWith(Reason::kLogMissingBody));
  world.erase({world.used}, true, [&](record::ErasureProposed& what) {
    what.before = world.scenario.entries[world.leaves_of(world.used).front()].leaf.time;
  });
  EXPECT_THAT(write_export(temporary / "c", world.anchor(), world), FailsWith(Reason::kLogMissingBody));
  // No other kind of body is ever missing.
  world.erased.clear();
  world.edit_page = [](record::EntryPage& page) {
    for (record::Entry& entry : page.entries)
      if (entry.leaf.kind == static_cast<std::uint8_t>(Kind::kEnrolment))
        entry = record::Entry{entry.leaf, {}, {}, {}};
  };
  EXPECT_THAT(write_export(temporary / "d", world.anchor(), world), FailsWith(Reason::kLogMissingBody));
}

TEST_F(ErasedAudit, EachOtherMissingBodyIsAnError) {
  Archive world;
  world.erase({world.used});
  write(world);
  const ManifestHead head = head_of(directory);
  ASSERT_THAT(verify_both(directory, world.anchor()), Succeeds());
  for (std::uint64_t i = 0; i < world.scenario.entries.size(); ++i) {
    const std::string path = body_path(LeafIndex{i});
    if (!is_there(path)) continue;
    const Bytes good = test::read_file(directory / path);
    fs::remove(directory / path);
    rewrite_manifest(directory, head);
    const Status status = verify_both(directory, world.anchor());
    EXPECT_THAT(status, FailsWith(Reason::kLogMissingBody)) << i;
    expect_found(status, path);
    write_file(directory / path, good);
  }
  // All bodies of a case, with the evidence that only they name, which no erasure covers.
  for (const OpenCase* open : {&world.refused, &world.expired}) {
    const fs::path copy = temporary / "copy";
    fs::remove_all(copy);
    fs::copy(directory, copy, fs::copy_options::recursive);
    for (const std::uint64_t leaf : world.leaves_of(*open)) fs::remove(copy / body_path(LeafIndex{leaf}));
    rewrite_manifest(copy, head);
    const Status status = verify_both(copy, world.anchor());
    EXPECT_THAT(status, FailsWith(Reason::kLogMissingBody));
    expect_found(status, body_path(LeafIndex{world.leaves_of(*open).front()}));
  }
  // A blob of an erased case that is there still is evidence of no leaf.
  write_file(directory / Archive::blob("only here"), as_bytes("only here"));
  rewrite_manifest(directory, head);
  expect_found(verify_both(directory, world.anchor()), Archive::blob("only here"));
}

TEST_F(ErasedAudit, ABodyThatWasPutBackIsNoPartOfTheExport) {
  Archive world;
  const fs::path old = temporary / "old";
  value_of(write_export(old, world.anchor(), world));
  world.erase({world.used});
  write(world);
  const ManifestHead head = head_of(directory);
  const std::vector<std::uint64_t> leaves = world.leaves_of(world.used);
  const auto put_back = [&](std::uint64_t leaf) {
    const std::string path = body_path(LeafIndex{leaf});
    fs::create_directories((directory / path).parent_path());
    fs::copy_file(old / path, directory / path, fs::copy_options::overwrite_existing);
  };
  // As long as MANIFEST does not list it, it is as what an erasure has not yet taken away.
  put_back(leaves.front());
  EXPECT_EQ(value_of(verify_export(directory, world.anchor())).pending, 1u);
  // Listed, one alone or all of them, with their evidence: an export has one form.
  rewrite_manifest(directory, head);
  EXPECT_FALSE(verify_both(directory, world.anchor()).has_value());
  for (const std::uint64_t leaf : leaves) put_back(leaf);
  for (const std::string& path : files_of(old))
    if (path.starts_with("blobs/") && !is_there(path)) {
      fs::create_directories((directory / path).parent_path());
      fs::copy_file(old / path, directory / path);
    }
  rewrite_manifest(directory, head);
  const Status status = verify_both(directory, world.anchor());
  expect_found(status, body_path(LeafIndex{leaves.front()}));
  expect_found(status, "was erased");
}

TEST_F(ErasedAudit, TellsTheStateOfAMomentBeforeTheErasure) {
  Archive world;
  world.erase({world.used});
  write(world);
  std::size_t grant = 0;
  while (world.scenario.entries[grant].leaf.kind != static_cast<std::uint8_t>(Kind::kGrant)) ++grant;
  const auto as_of = [&](AsOf moment) {
    return value_of(verify_export(directory, world.anchor(), {.as_of = moment}));
  };
  const AuditReport then = as_of(TreeSize{grant + 1});
  EXPECT_EQ(then.cases.access, 1u);
  EXPECT_EQ(then.cases.erased, 1u);
  EXPECT_EQ(then.cases.open, 0u);
  EXPECT_EQ(then.cases.erasures, 0u);
  ASSERT_EQ(then.erased.size(), 1u);  // what is erased is so at every moment
  // Somebody had access then; who, nobody can tell any more.
  ASSERT_EQ(then.moment->grants.size(), 1u);
  EXPECT_EQ(then.moment->grants[0].case_id, world.used.id);
  EXPECT_EQ(then.moment->grants[0].person, "");
  EXPECT_GT(then.moment->grants[0].not_after, world.scenario.entries[grant].leaf.time);
  EXPECT_THAT(as_of(TreeSize{grant}).moment->grants, testing::IsEmpty());
  EXPECT_THAT(as_of(TreeSize{world.scenario.entries.size()}).moment->grants, testing::IsEmpty());
  EXPECT_THAT(verify_export(directory, world.anchor(), {.kept = world.notes[0], .kept_name = "kept"}),
              Succeeds());
}

TEST_F(ErasedAudit, TellsErasedCasesErasuresAndHoldsInRows) {
  Archive world;
  const LeafIndex held = value_of(world.scenario.hold({world.kept.id}));
  const CaseId hold = world.scenario.entries[held.get()].leaf.case_id;
  value_of(world.scenario.hold({}));
  const LeafIndex every = world.scenario.last_index();
  value_of(world.scenario.lift(world.scenario.entries[every.get()].leaf.case_id));
  world.erase({world.used, world.expired});
  write(world);
  CaseTable table;
  const AuditReport report = value_of(verify_export(
      directory, world.anchor(),
      {.on_entry = [&](const record::State& state, const record::OpenedEntry& entry,
                       LeafIndex index) { table.add(state, entry, index); },
       .on_erased = [&](const ledger::Leaf& leaf, LeafIndex index) { table.add_erased(leaf, index); }}));
  EXPECT_EQ(report.cases.holds, 3u);
  const std::vector<CaseRow> rows = std::move(table).finish(report.last_leaf);
  const auto row_of = [&](const CaseId& id) {
    const auto found =
        std::find_if(rows.begin(), rows.end(), [&](const CaseRow& row) { return row.id == id; });
    EXPECT_NE(found, rows.end());
    return *found;
  };
  const CaseRow erased = row_of(world.used.id);
  EXPECT_EQ(erased.outcome, Outcome::kErased);
  EXPECT_EQ(erased.opened, world.scenario.entries[world.leaves_of(world.used).front()].leaf.time);
  EXPECT_NE(erased.granted, UnixMillis{});
  ASSERT_TRUE(erased.erased && erased.erased_by);
  EXPECT_EQ(*erased.erased_by, report.erased.at(0).erasure.what.case_id);
  EXPECT_EQ(*erased.erased, report.erased.at(0).erasure.time);
  EXPECT_EQ(erased.person + erased.reason + erased.host + erased.resource, "");
  EXPECT_EQ(erased.leases + erased.sessions, 0u);
  EXPECT_EQ(row_of(world.expired.id).granted, UnixMillis{});
  const CaseRow erasure = row_of(*erased.erased_by);
  EXPECT_EQ(erasure.type, record::CaseType::kErasure);
  EXPECT_EQ(erasure.outcome, Outcome::kDone);
  EXPECT_EQ(erasure.person, test::SampleCompany::id("grace"));
  EXPECT_EQ(erasure.approved_by.size(), 3u);
  EXPECT_EQ(erasure.named.size(), 2u);
  ASSERT_TRUE(erasure.before);
  const CaseRow kept = row_of(hold);
  EXPECT_EQ(kept.type, record::CaseType::kHold);
  EXPECT_THAT(kept.named, testing::ElementsAre(world.kept.id));
  EXPECT_FALSE(kept.ended);
  const CaseRow lifted = row_of(world.scenario.entries[every.get()].leaf.case_id);
  EXPECT_TRUE(lifted.ended);
  EXPECT_THAT(lifted.named, testing::IsEmpty());
  // What a report of granted accesses has, and how.
  const Filter granted{.type = record::CaseType::kAccess, .granted = true};
  EXPECT_TRUE(granted.takes(erased));
  EXPECT_FALSE(granted.takes(row_of(world.expired.id)));
  EXPECT_THAT(csv_line(erased), HasSubstr("\"erased\""));
  EXPECT_THAT(csv_head(),
              testing::EndsWith("\"sessions\",\"erased\",\"erased_by\",\"before\",\"cases\"\r\n"));
  EXPECT_EQ(value_of(parse_outcome("erased")), Outcome::kErased);
  EXPECT_EQ(value_of(parse_type("hold")), record::CaseType::kHold);
}

TEST_F(ErasedAudit, TellsEachLeafInPlainWords) {
  Archive world;
  const LeafIndex held = value_of(world.scenario.hold({}));
  const LeafIndex lifted = value_of(world.scenario.lift(world.scenario.entries[held.get()].leaf.case_id));
  world.erase({world.used, world.expired});
  const auto told = [&](LeafIndex index) {
    const Told line = value_of(tell(world.scenario.entries[index.get()]));
    return line.who + " " + line.what;
  };
  EXPECT_THAT(told(held), HasSubstr("dana@corp.example every case held from erasure: a court has asked"));
  EXPECT_THAT(told(lifted), HasSubstr("lifted: the case is closed"));
  for (std::size_t i = 0; i < world.scenario.entries.size(); ++i) {
    const auto kind = static_cast<Kind>(world.scenario.entries[i].leaf.kind);
    if (kind == Kind::kErasureProposed) {
      EXPECT_THAT(told(LeafIndex{i}), HasSubstr("grace@corp.example 2 cases: c-"));
    }
    if (kind == Kind::kErasure) {
      EXPECT_THAT(told(LeafIndex{i}),
                  HasSubstr("approved by grace@corp.example, heidi@corp.example, carol@corp.example"));
    }
  }
}

test::Ran run(std::vector<std::string> words) {
  return test::run_tool(std::move(words), {commands()});
}

TEST_F(ErasedAudit, TheCommandsSayWhatWasErased) {
  Archive world;
  value_of(world.scenario.hold({world.kept.id}));
  world.erase({world.used, world.expired});
  write(world);
  const std::string trust = temporary / "us.trust";
  write_file(trust, as_bytes("origin = \"" + world.scenario.origin().get() +
                             "\"\npolicy = \"sha256:" + to_hex(world.scenario.genesis) + "\"\n"));
  const std::string dir = directory.string(), used = to_hex(world.used.id);
  test::Ran shown = run({"audit", "verify", dir, "--trust", trust});
  EXPECT_EQ(shown.exit, 0);
  EXPECT_THAT(shown.out, HasSubstr("2 erased"));
  EXPECT_THAT(shown.out, HasSubstr("proposed by grace@corp.example, approved by grace@corp.example, "
                                   "heidi@corp.example, carol@corp.example: older than the law allows"));
  shown = run({"audit", "show", used, "--export", dir});
  EXPECT_EQ(shown.exit, 0);
  EXPECT_THAT(shown.out, HasSubstr("erased on "));
  EXPECT_THAT(shown.out, HasSubstr("approved by grace@corp.example, heidi@corp.example, carol@corp.example"));
  EXPECT_THAT(shown.out, testing::Not(HasSubstr("erin")));
  shown = run({"audit", "grep", dir, "--trust", trust});
  EXPECT_THAT(shown.out, HasSubstr("by erasure case c-"));
  EXPECT_THAT(shown.out, HasSubstr("erasure of 2 cases: c-"));
  EXPECT_THAT(shown.out, HasSubstr("hold of 1 case: c-"));
  shown = run({"audit", "report", dir, "--trust", trust});
  EXPECT_EQ(std::count(shown.out.begin(), shown.out.end(), '\n'), 3);  // a head, `used` and `kept`
  EXPECT_THAT(shown.out, HasSubstr("\"" + used + "\",\"access\",\"erased\""));
  shown = run({"audit", "grep", dir, "--trust", trust, "--outcome", "erased", "-f", "json"});
  EXPECT_THAT(shown.out, HasSubstr("\"case\":\"" + used + "\""));
  shown = run({"audit", "verify", dir, "--trust", trust, "-f", "json", "--as-of", "3"});
  EXPECT_THAT(shown.out, HasSubstr("\"leaves\":" + std::to_string(world.leaves_of(world.used).size() + 1)));
  shown =
      run({"audit", "follow", dir, "--trust", trust, "--place", temporary / "place", "--once", "-f", "json"});
  for (const char* name : {"hold", "erasure-proposed", "erasure"})
    EXPECT_THAT(shown.out, HasSubstr("{\"alarm\":\"" + std::string{name} + "\""));
}

TEST_F(ErasedAudit, ExplainsADossierWhoseCaseWasErased) {
  Archive world;
  const OpenCase access = world.scenario.granted();
  const record::Dossier saved = world.scenario.dossier(access);
  world.scenario.advance(10 * kDay);
  world.erase({access});
  write(world);
  const Explanation told = value_of(explain_from_export(saved, directory, world.anchor()));
  std::string text = told.summary;
  for (const std::string& layer : told.layers) text += "\n" + layer;
  EXPECT_THAT(text, HasSubstr("erased on "));
  EXPECT_THAT(text, HasSubstr("approved by grace@corp.example"));
}

TEST_F(ErasedAudit, TheMonitorTellsOfErasuresAndHolds) {
  Archive world;
  const LeafIndex held = value_of(world.scenario.hold({world.kept.id}));
  value_of(world.scenario.lift(world.scenario.entries[held.get()].leaf.case_id));
  world.erase({world.used, world.refused});
  std::vector<std::string> names;
  std::string texts;
  const auto monitor_of = [&] {
    names.clear();
    return Monitor{world.anchor(),
                   bookmark_at_start(world.anchor()),
                   {},
                   [&](const Alarm& alarm, const Bookmark&) -> Status {
                     names.emplace_back(alarm.name);
                     texts += alarm.what + "\n";
                     return Done{};
                   }};
  };
  Monitor monitor = monitor_of();
  EXPECT_THAT(monitor.look(world, world.scenario.now), Succeeds());
  for (const char* name : {"hold", "hold-lifted", "erasure-proposed", "erasure"})
    EXPECT_THAT(names, testing::Contains(name));
  EXPECT_THAT(names, testing::Not(testing::Contains("inconsistent")));
  write(world);
  DirectorySource on_disk{directory};
  Monitor again = monitor_of();
  EXPECT_THAT(again.look(on_disk, world.scenario.now), Succeeds());
  EXPECT_THAT(names, testing::Contains("erasure"));
  Monitor resumed{
      world.anchor(), again.place(), {}, [](const Alarm&, const Bookmark&) -> Status { return Done{}; }};
  EXPECT_THAT(resumed.catch_up(directory), Succeeds());
  EXPECT_EQ(resumed.folded().get(), world.scenario.entries.size());
  EXPECT_THAT(resumed.look(world, world.scenario.now), Succeeds());
  // A broker that erases while it is read: after the first leaf of a case, and no erasure seen yet.
  const std::set<CaseId> gone = std::exchange(world.erased, {});
  Monitor beside = monitor_of();
  world.edit_page = [&](record::EntryPage& page) {
    if (page.entries.back().leaf.case_id != world.used.id) return;
    world.erased = gone;
    world.edit_page = {};
  };
  EXPECT_THAT(beside.look(world, world.scenario.now), Succeeds());
  EXPECT_EQ(world.erased, gone);
  EXPECT_THAT(names, testing::Not(testing::Contains("inconsistent")));
  EXPECT_EQ(std::count(names.begin(), names.end(), "erasure"), 1);
  // A body that no erasure covers.
  world.erased.insert(world.expired.id);
  Monitor third = monitor_of();
  EXPECT_THAT(third.look(world, world.scenario.now), FailsWith(Reason::kLogMissingBody));
  EXPECT_THAT(names, testing::Contains("inconsistent"));
  EXPECT_THAT(texts, HasSubstr(to_hex(world.expired.id)));
}

}  // namespace
}  // namespace sallyport::client::auditor
