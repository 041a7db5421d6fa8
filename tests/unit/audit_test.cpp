#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <cstdlib>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <set>

#include "attestation/crypto/digest.h"
#include "attestation/crypto/random.h"
#include "client/auditor/case_table.h"
#include "client/auditor/explain.h"
#include "client/auditor/monitor.h"
#include "client/auditor/tell.h"
#include "client/auditor/verify_export.h"
#include "client/auditor/write_export.h"
#include "client/terminal/files.h"
#include "client/terminal/render.h"
#include "tests/support/export_world.h"
#include "tests/support/files.h"
#include "tests/support/joining.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"

namespace sallyport::client::auditor {
namespace {

using namespace std::chrono_literals;
using record::Kind;
using test::FailsWith;
using test::OpenCase;
using test::RecordScenario;
using test::Succeeds;
using test::TemporaryDirectory;
using test::value_of;

// Lived is a small company's log: an enrolment, an access that was granted and used, and two that were not.
struct Lived : World {
  OpenCase access, foreign;
  Lived() : access{run()}, foreign{run_foreign()} { cosign(4); }

 private:
  OpenCase run() {
    cosign();
    OpenCase open = scenario.request({.attachments = {{"lag.txt", to_bytes(as_bytes("replica lag 40 s"))}}});
    cosign();
    scenario.approve_all(open);
    value_of(scenario.grant(open));
    cosign();
    value_of(scenario.append(Kind::kLease, open.id, scenario.lease(open)));
    value_of(scenario.append(Kind::kSessionOpened, open.id, scenario.session_opened(open, 1)));
    value_of(scenario.append(Kind::kSessionClosed, open.id, scenario.session_closed(open, 1)));
    return open;
  }
  OpenCase run_foreign() {
    OpenCase open = scenario.request({.person = "wei", .account = "dbadmin"});
    refuse(open);
    const OpenCase denied = scenario.request({});
    value_of(scenario.deny(denied.id, "alice"));
    return open;
  }
};

// remove_note takes away a checkpoint and what is there only for it, of an export of less than 256 leaves.
void remove_note(const fs::path& directory, TreeSize size) {
  const auto width = static_cast<unsigned>(size.get());
  for (const std::string& path :
       {note_path(size), ledger::tile_path({0, 0, width}), ledger::bundle_path({0, width})})
    ASSERT_TRUE(fs::remove(directory / path)) << path;
}

class Audit : public testing::Test {
 protected:
  TemporaryDirectory temporary;
  fs::path directory = temporary / "export";
  Exported write(World& world, const ExportOptions& options = {}) {
    return value_of(write_export(directory, world.anchor(), world, options));
  }
};

TEST_F(Audit, VerifiesWhatItExportedAndCountsIt) {
  Lived world;
  const Exported exported = write(world);
  EXPECT_EQ(exported.size.get(), world.scenario.entries.size());
  EXPECT_EQ(exported.fetched, world.scenario.entries.size());
  const AuditReport report = value_of(verify_export(directory, world.anchor()));
  EXPECT_EQ(report.size, exported.size);
  EXPECT_EQ(report.root, world.scenario.tree.root());
  EXPECT_EQ(report.files, exported.files);
  EXPECT_EQ(report.checkpoints, world.notes.size());
  EXPECT_EQ(report.cases.access, 3u);
  EXPECT_EQ(report.cases.granted, 1u);
  EXPECT_EQ(report.cases.refused, 1u);
  EXPECT_EQ(report.cases.denied, 1u);
  EXPECT_EQ(report.cases.expired, 0u);
  EXPECT_EQ(report.cases.open, 0u);
  EXPECT_EQ(report.cases.sessions, 1u);
  EXPECT_EQ(report.cases.leases, 1u);
  EXPECT_EQ(report.evidence.attachments, 1u);
  EXPECT_EQ(report.policies.size(), 1u);
  ASSERT_EQ(report.foreign.size(), 1u);
  EXPECT_EQ(report.foreign[0].case_id, world.foreign.id);
  EXPECT_EQ(report.foreign[0].region, "cn");
  EXPECT_FALSE(report.foreign[0].granted);
  EXPECT_EQ(report.newest_cosigned.get() / 1000, world.scenario.now.get() / 1000);
  EXPECT_GT(report.signatures.all(), report.size.get());
}

TEST_F(Audit, CountsCasesThatExpiredAndThoseStillOpen) {
  World world;
  world.scenario.request({});
  world.scenario.advance(2h);
  world.scenario.request({});
  world.cosign();
  write(world);
  const AuditReport report = value_of(verify_export(directory, world.anchor()));
  EXPECT_EQ(report.cases.access, 2u);
  EXPECT_EQ(report.cases.expired, 1u);
  EXPECT_EQ(report.cases.open, 1u);
}

TEST_F(Audit, JudgesEachCheckpointByTheWitnessesOfItsSize) {
  World world;
  world.cosign();
  crypto::PrivateKey other = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kEd25519);
  value_of(world.scenario.change_policy(
      [&](test::SamplePolicy& policy) { policy.witnesses.at(0).key = other.public_key(); }));
  const std::string by_former = world.scenario.cosign();
  std::swap(other, world.scenario.company.witnesses.at(0));
  world.cosign();
  write(world);
  const AuditReport report = value_of(verify_export(directory, world.anchor()));
  EXPECT_EQ(report.checkpoints, 2u);
  ASSERT_EQ(report.policies.size(), 2u);
  EXPECT_EQ(report.policies[1].version, 2u);
  EXPECT_EQ(report.cases.policies, 1u);

  EXPECT_EQ(as_text(test::read_file(directory / "policies/2")),
            world.scenario.state.control.policy()->policy.authority.witnesses);
  const ManifestHead head = head_of(directory);
  write_file(directory / "checkpoint", as_bytes(by_former));
  expect_found(verify(directory, world.anchor()), "checkpoint");
  write_file(directory / note_path(head.size), as_bytes(by_former));
  rewrite_manifest(directory, head);
  expect_found(verify(directory, world.anchor()), note_path(head.size));
}

TEST_F(Audit, TellsTheStateOfAnyMoment) {
  Lived world;
  write(world);
  std::size_t grant = 0;
  while (world.scenario.entries[grant].leaf.kind != static_cast<std::uint8_t>(Kind::kGrant)) ++grant;
  const UnixMillis granted = world.scenario.entries[grant].leaf.time;
  const auto as_of = [&](AsOf moment) { return verify_export(directory, world.anchor(), {.as_of = moment}); };
  // One leaf before the grant the case is open; with it, erin has access.
  AuditReport report = value_of(as_of(TreeSize{grant}));
  ASSERT_TRUE(report.moment);
  EXPECT_EQ(report.moment->size, TreeSize{grant});
  EXPECT_EQ(report.size.get(), world.scenario.entries.size());
  EXPECT_EQ(report.cases.access, 1u);
  EXPECT_EQ(report.cases.open, 1u);
  EXPECT_THAT(report.moment->grants, testing::IsEmpty());
  EXPECT_EQ(report.foreign_count, 0u);

  report = value_of(as_of(granted));
  EXPECT_EQ(report.moment->size, TreeSize{grant + 1});
  EXPECT_EQ(report.cases.granted, 1u);
  ASSERT_EQ(report.moment->grants.size(), 1u);
  EXPECT_EQ(report.moment->grants[0].person, test::SampleCompany::id("erin"));
  EXPECT_EQ(report.moment->grants[0].account, "dbadmin");
  EXPECT_EQ(report.moment->grants[0].host, world.access.request.host);
  EXPECT_EQ(value_of(as_of(TreeSize{grant + 1})).moment->root, report.moment->root);
  report = value_of(as_of(UnixMillis{granted.get() - 1}));
  EXPECT_EQ(report.moment->size, TreeSize{grant});

  // What the export does not reach, it says nothing of.
  EXPECT_THAT(as_of(TreeSize{0}), FailsWith(Reason::kUsage));
  EXPECT_THAT(as_of(TreeSize{world.scenario.entries.size() + 1}), FailsWith(Reason::kUsage));
  EXPECT_THAT(as_of(UnixMillis{world.scenario.entries[0].leaf.time.get() - 1}), FailsWith(Reason::kUsage));
  EXPECT_THAT(as_of(UnixMillis{world.scenario.now.get() + 3'600'000}), FailsWith(Reason::kUsage));
  // All of the export is verified, whatever moment is asked for.
  Bytes last = test::read_file(directory / body_path(world.scenario.last_index()));
  last.back() ^= 1;
  write_file(directory / body_path(world.scenario.last_index()), last);
  rewrite_manifest(directory, head_of(directory));
  const auto changed = as_of(TreeSize{1});
  ASSERT_FALSE(changed.has_value());
  expect_found(changed.error(), body_path(world.scenario.last_index()));
}

TEST_F(Audit, HoldsTheLogAgainstACheckpointThatWasKept) {
  Lived world;
  write(world);
  const auto since = [&](const std::string& kept) -> Result<AuditReport> {
    return verify_export(directory, world.anchor(), {.kept = kept, .kept_name = "kept"});
  };
  for (const std::string& note : world.notes) {
    if (note != world.notes.back())  // what the broker shows of it is of no interest
      remove_note(directory, World::size_of(note));
    rewrite_manifest(directory, head_of(directory));
    const auto report = since(note);
    ASSERT_THAT(report, Succeeds());
    EXPECT_EQ(report->continued, World::size_of(note));
  }
  const auto refuses = [&](const std::string& kept, Reason reason) {
    const auto report = since(kept);
    ASSERT_FALSE(report.has_value());
    EXPECT_THAT(report, FailsWith(reason));
    expect_found(report.error(), "kept");
  };
  // Another history, signed by all; a larger log; too few witnesses; another log's.
  ledger::Tree other;
  for (std::size_t i = 0; i < 5; ++i) other.append(crypto::sha256(as_bytes("another leaf")));
  refuses(world.scenario.cosign(other, 4, world.scenario.now), Reason::kLogFork);
  while (other.size() <= world.scenario.tree.size()) other.append(crypto::sha256(as_bytes("one more")));
  refuses(world.scenario.cosign(other, 4, world.scenario.now), Reason::kLogRollback);
  refuses(world.scenario.cosign(2), Reason::kUnverified);
  refuses(World{}.scenario.cosign(), Reason::kLogCheckpoint);
  refuses("no checkpoint", Reason::kUnverified);
}

TEST_F(Audit, VerifiesALogThatGoesOnFromAnother) {
  World world;
  world.scenario.granted();
  const TreeSize before = world.scenario.follower.size();
  value_of(world.scenario.continue_log({}));
  world.cosign();
  write(world);
  EXPECT_THAT(verify_both(directory, world.anchor()), Succeeds());
  world.scenario.granted();
  world.cosign();
  value_of(world.scenario.change_policy([](test::SamplePolicy&) {}));
  world.cosign();
  write(world);
  EXPECT_THAT(verify_both(directory, world.anchor()), Succeeds());
  const auto report = verify_export(directory, world.anchor(), {});
  ASSERT_THAT(report, Succeeds());
  ASSERT_TRUE(report->continues);
  EXPECT_EQ(report->continues->size, before);
  EXPECT_EQ(report->policies.front().version, 2u);
  EXPECT_EQ(report->policies.back().version, 3u);
}

TEST_F(Audit, ContinuesAnExportAndMakesTheSameOneAtOnce) {
  Lived world;
  const std::vector<std::string> notes = world.notes;
  const std::vector<record::Entry> entries = world.scenario.entries;
  world.notes.resize(2);
  world.scenario.entries.resize(World::size_of(world.notes.back()).get());
  write(world);
  EXPECT_THAT(verify(directory, world.anchor()), Succeeds());
  world.notes = notes;
  world.scenario.entries = entries;
  const Exported more = write(world);
  EXPECT_LT(more.fetched, entries.size());
  EXPECT_THAT(verify(directory, world.anchor()), Succeeds());
  const Exported again = write(world);
  EXPECT_EQ(again.fetched, 0u);
  const Exported compared = write(world, {.since = 0, .progress = {}});
  EXPECT_EQ(compared.fetched, entries.size());

  const fs::path once = temporary / "once";
  value_of(write_export(once, world.anchor(), world));
  ASSERT_EQ(files_of(once), files_of(directory));
  for (const std::string& path : files_of(once))
    EXPECT_EQ(test::read_file(once / path), test::read_file(directory / path)) << path;
}

TEST_F(Audit, ContinuesAnExportAcrossFullTiles) {
  World world;
  world.page = 100;
  for (int i = 0; i < 60; ++i) {
    world.scenario.granted();
    world.scenario.advance(20min);
    if (i == 40 || i == 50) {  // before and behind leaf 256
      world.cosign();
      write(world);
      EXPECT_THAT(verify(directory, world.anchor()), Succeeds());
    }
  }
  world.cosign();
  write(world);
  ASSERT_LT(World::size_of(world.notes[0]).get(), 256u);
  ASSERT_GT(World::size_of(world.notes[1]).get(), 256u);
  EXPECT_THAT(verify(directory, world.anchor()), Succeeds());
  const std::vector<std::string> paths = files_of(directory);
  for (const char* path : {"tile/0/000", "tile/1/000.p/1", "tile/entries/000"})
    EXPECT_EQ(std::count(paths.begin(), paths.end(), path), 1) << path;
}

TEST_F(Audit, WritesNothingOverWhatIsOther) {
  Lived world;
  write(world);
  const Bytes body = test::read_file(directory / "bodies/000/003");
  Bytes other = body;
  other.back() ^= 1;
  write_file(directory / "bodies/000/003", other);
  EXPECT_THAT(write_export(directory, world.anchor(), world, {.since = 0, .progress = {}}),
              FailsWith(Code::kConflict));
  EXPECT_EQ(test::read_file(directory / "bodies/000/003"), other);
  write_file(directory / "bodies/000/003", body);
  write_file(directory / "notes.txt", as_bytes("mine"));
  EXPECT_THAT(write_export(directory, world.anchor(), world), FailsWith(Code::kConflict));
  fs::remove(directory / "notes.txt");
  // An export of another log that was stopped.
  fs::remove(directory / kManifestPath);
  write_file(directory / "checkpoint", as_bytes("— something else\n"));
  EXPECT_THAT(write_export(directory, world.anchor(), world), FailsWith(Code::kConflict));
}

TEST_F(Audit, RefusesWhatALyingBrokerSends) {
  Lived world;
  world.edit_page = [](record::EntryPage& page) {
    for (record::Entry& entry : page.entries)
      if (entry.leaf.kind == static_cast<std::uint8_t>(Kind::kRequest)) entry.body.back() ^= 1;
  };
  EXPECT_THAT(write_export(directory, world.anchor(), world), FailsWith(Reason::kLogBody));
  world.edit_page = [](record::EntryPage& page) {
    for (record::Entry& entry : page.entries) entry.blobs.clear();
  };
  EXPECT_THAT(write_export(temporary / "b", world.anchor(), world), FailsWith(Reason::kLogMissingBody));
  // An entry left out: what follows does not lead to the roots.
  world.edit_page = [](record::EntryPage& page) {
    if (page.entries.size() > 1) page.entries.erase(page.entries.begin());
  };
  EXPECT_THAT(write_export(temporary / "c", world.anchor(), world), FailsWith(Reason::kLogFork));
  world.edit_page = [](record::EntryPage& page) { page.entries.clear(); };
  EXPECT_THAT(write_export(temporary / "d", world.anchor(), world), FailsWith(Reason::kPeer));
  // A broker that went back behind an export.
  world.edit_page = {};
  write_export(temporary / "e", world.anchor(), world).value();
  world.notes.resize(1);
  EXPECT_THAT(write_export(temporary / "e", world.anchor(), world), FailsWith(Reason::kLogRollback));
}

TEST_F(Audit, SaysSoWhenThereIsNoExport) {
  Lived world;
  const auto absent = verify(temporary / "absent", world.anchor());
  ASSERT_THAT(absent, FailsWith(Reason::kUsage));
  EXPECT_THAT(absent.error().what, testing::HasSubstr("does not exist; an export is a directory"));
  EXPECT_EQ(exit_code_of(absent.error()), 2);
  write_file(temporary / "file", as_bytes("no export"));
  EXPECT_THAT(verify(temporary / "file", world.anchor()), FailsWith(Reason::kUsage));
}

// Every byte of every file, in eight parts that can run at once.
class AuditOfBytes : public Audit, public testing::WithParamInterface<std::size_t> {
 protected:
  static constexpr std::size_t kParts = 8;
};
INSTANTIATE_TEST_SUITE_P(Part, AuditOfBytes, testing::Range(std::size_t{0}, std::size_t{8}));

TEST_P(AuditOfBytes, NoticesEveryChangedByteOfEveryFile) {
  Lived world;
  write(world);
  // Every one, unless AUDIT_BYTES says to take one of that many.
  const char* const one_of = std::getenv("AUDIT_BYTES");
  const std::size_t stride =
      one_of == nullptr ? 1 : std::max<std::size_t>(1, std::strtoull(one_of, nullptr, 10));
  std::size_t changes = 0;
  for (const std::string& path : files_of(directory)) {
    const Bytes good = test::read_file(directory / path);
    Bytes changed = good;
    for (std::size_t i = GetParam(); i < good.size(); i += kParts * stride) {
      changed[i] ^= 1;
      write_file(directory / path, changed);
      changed[i] = good[i];
      // One thread does no more than it must to find it. That many find the same is tested above.
      // A changed MANIFEST may be found at the file that it then names, or does not.
      ASSERT_NO_FATAL_FAILURE(
          expect_found(verify(directory, world.anchor(), 0), path == kManifestPath ? "" : path))
          << path << " byte " << i;
      ++changes;
    }
    write_file(directory / path, good);
  }
  EXPECT_GT(changes, 20'000 / kParts / stride);
  EXPECT_THAT(verify(directory, world.anchor()), Succeeds());
}

TEST_F(Audit, NoticesChangesThatAManifestMadeAnewHides) {
  Lived world;
  write(world);
  const ManifestHead head = head_of(directory);
  for (const std::string& path : files_of(directory)) {
    if (path == kManifestPath) continue;
    const Bytes good = test::read_file(directory / path);
    const std::size_t stride = std::max<std::size_t>(good.size() / 5, 1);
    for (std::size_t i = 0; i < good.size(); i += stride) {
      Bytes changed = good;
      changed[i] ^= 1;
      write_file(directory / path, changed);
      rewrite_manifest(directory, head);
      const Status status =
          i == 0 ? verify_both(directory, world.anchor()) : verify(directory, world.anchor(), 0);
      ASSERT_FALSE(status.has_value()) << path << " byte " << i;
      ASSERT_EQ(exit_code_of(status.error()), 8) << path << " byte " << i << describe(status.error());
    }
    write_file(directory / path, good);
  }
}

// Of two errors the earlier one is found, by however many threads: in one window, and over the border of two.
TEST_F(Audit, FindsTheFirstOfTwoErrorsWithAllItsThreads) {
  World world;
  world.page = 100;
  while (world.scenario.entries.size() < 300) {
    world.scenario.granted();
    world.scenario.advance(20min);
  }
  world.cosign();
  write(world);
  const ManifestHead head = head_of(directory);
  ASSERT_THAT(verify_both(directory, world.anchor()), Succeeds());
  const auto spoil = [&](const std::string& path) {
    Bytes bytes = test::read_file(directory / path);
    bytes[bytes.size() / 2] ^= 1;
    write_file(directory / path, bytes);
  };
  // Evidence is wrong by its digest, a body by its commitment, a bundle by its tile, a checkpoint by its
  // root.
  const auto blob_of = [&](std::size_t entry) {
    return blob_path(record::item_of(world.scenario.entries.at(entry).blobs.at(0)).sha256);
  };
  std::size_t request = 100;
  while (world.scenario.entries[request].leaf.kind != static_cast<std::uint8_t>(Kind::kRequest)) ++request;
  const std::vector<std::pair<std::string, std::string>> pairs = {
      {body_path(LeafIndex{20}), body_path(LeafIndex{21})},
      {body_path(LeafIndex{20}), body_path(LeafIndex{290})},
      {blob_of(request), body_path(LeafIndex{request + 2})},
      {body_path(LeafIndex{request - 1}), blob_of(request)},
      {body_path(LeafIndex{200}), "tile/entries/001.p/" + std::to_string(head.size.get() - 256)},
      {body_path(LeafIndex{298}), "checkpoint"},
  };
  for (const auto& [first, second] : pairs) {
    const Bytes first_bytes = test::read_file(directory / first),
                second_bytes = test::read_file(directory / second);
    spoil(first);
    spoil(second);
    verify_both(directory, world.anchor()).has_value();  // as MANIFEST tells it
    rewrite_manifest(directory, head);
    const Status status = verify_both(directory, world.anchor());
    if (second != "checkpoint") expect_found(status, first);
    write_file(directory / first, first_bytes);
    write_file(directory / second, second_bytes);
    rewrite_manifest(directory, head);
  }
  EXPECT_THAT(verify_both(directory, world.anchor()), Succeeds());
}

// What is judged wrong only when it is folded: signatures that do not hold, in a log that agrees with itself.
TEST_F(Audit, JudgesForgedStatementsAsOneThreadDoes) {
  World world;
  const OpenCase open = world.scenario.request({});
  std::vector<record::Submission> forged;
  for (const char* person : {"alice", "bob"}) {
    forged.push_back(world.scenario.make_approval(open.id, person, {}));
    record::Envelope envelope = value_of(record::parse_envelope(forged.back().envelope));
    envelope.signatures.front().signature[40] ^= 1;
    forged.back().envelope = record::encode_envelope(envelope);
  }
  world.scenario.broker_is_rooted = true;
  for (const record::Submission& approval : forged)
    value_of(world.scenario.append(Kind::kApproval, open.id, approval));
  world.cosign(4);
  write(world);
  const Status status = verify_both(directory, world.anchor());
  expect_found(status, body_path(LeafIndex{world.scenario.last_index().get() - 1}));
}

TEST_F(Audit, TellsWhereABodyWasChanged) {
  Lived world;
  write(world);
  const ManifestHead head = head_of(directory);
  const std::string path = "bodies/000/002";
  Bytes body = test::read_file(directory / path);
  body[40] ^= 1;
  write_file(directory / path, body);
  for (int round = 0; round < 2; ++round) {  // the second with a MANIFEST that agrees
    const Status status = verify(directory, world.anchor());
    EXPECT_THAT(status, FailsWith(Reason::kLogBody));
    expect_found(status, "leaf 2 (bodies/000/002): body does not match its commitment");
    rewrite_manifest(directory, head);
  }
}

TEST_F(Audit, NoticesFilesThatAreMissingOrAdded) {
  Lived world;
  write(world);
  const ManifestHead head = head_of(directory);
  for (const std::string& path : files_of(directory)) {
    const Bytes good = test::read_file(directory / path);
    fs::remove(directory / path);
    expect_found(verify(directory, world.anchor()), path);
    if (path != kManifestPath) {
      rewrite_manifest(directory, head);
      const Status status = verify(directory, world.anchor());
      if (path.starts_with("checkpoints/") && path != note_path(head.size))
        expect_found(status, "a partial tile of no checkpoint");
      else
        expect_found(status, path);
    }
    write_file(directory / path, good);
    rewrite_manifest(directory, head);
  }
  EXPECT_THAT(verify(directory, world.anchor()), Succeeds());

  // Without an older checkpoint and its tiles it is an export too: one more proof was there, and none is
  // owed.
  const TreeSize older = World::size_of(world.notes[1]);
  const Bytes note = test::read_file(directory / note_path(older));
  remove_note(directory, older);
  rewrite_manifest(directory, head);
  EXPECT_THAT(verify(directory, world.anchor()), Succeeds());

  const std::uint64_t size = head.size.get();
  const Bytes extra = to_bytes(as_bytes("evidence of nothing"));
  // What an export to come would have is no part of this one; anything else may not be there.
  const std::vector<std::string> to_come = {blob_path(crypto::sha256(extra)),
                                            body_path(LeafIndex{size}),
                                            note_path(TreeSize{size + 1}),
                                            "tile/0/000",
                                            "tile/1/000.p/1",
                                            "policies/2",
                                            ".part"};
  for (const std::string& path : to_come) {
    write_file(directory / path, extra);
    const AuditReport report = value_of(verify_export(directory, world.anchor()));
    EXPECT_EQ(report.pending, 1u) << path;
    EXPECT_EQ(report.root, head.root);
    rewrite_manifest(directory, head);
    expect_found(verify(directory, world.anchor()), path.starts_with("blobs/") ? path : "MANIFEST");
    fs::remove(directory / path);
    rewrite_manifest(directory, head);
  }
  for (const std::string& path : {std::string{"bodies/0"}, std::string{"README"}, std::string{"log.policy"},
                                  note_path(older), std::string{"tile/0/000.p/0"}}) {
    write_file(directory / path, path == note_path(older) ? note : extra);
    expect_found(verify(directory, world.anchor()), path);
    rewrite_manifest(directory, head);
    expect_found(verify(directory, world.anchor()), path == note_path(older) ? "tile/" : "MANIFEST");
    fs::remove(directory / path);
    rewrite_manifest(directory, head);
  }
  fs::create_directory(directory / "blobs/00");  // directories say nothing
  EXPECT_THAT(verify(directory, world.anchor()), Succeeds());
  fs::rename(directory / "policies/1", temporary / "policy");
  fs::create_symlink(temporary / "policy", directory / "policies/1");
  expect_found(verify(directory, world.anchor()), "policies/1");
}

TEST_F(Audit, NoticesEntriesInAnotherOrder) {
  Lived world;
  write(world);
  const ManifestHead head = head_of(directory);
  fs::rename(directory / "bodies/000/003", temporary / "kept");
  fs::rename(directory / "bodies/000/004", directory / "bodies/000/003");
  fs::rename(temporary / "kept", directory / "bodies/000/004");
  expect_found(verify(directory, world.anchor()), "bodies/000/003");
  rewrite_manifest(directory, head);
  expect_found(verify(directory, world.anchor()), "bodies/000/003");

  // With their leaves exchanged too, the tree is another one.
  const std::string bundle = ledger::bundle_path({0, static_cast<unsigned>(head.size.get())});
  Bytes leaves = test::read_file(directory / bundle);
  std::swap_ranges(leaves.begin() + 3 * 68, leaves.begin() + 4 * 68, leaves.begin() + 4 * 68);
  write_file(directory / bundle, leaves);
  rewrite_manifest(directory, head);
  expect_found(verify(directory, world.anchor()), "tile/0/");
}

TEST_F(Audit, TellsOfAnOlderCheckpointInFront) {
  Lived world;
  write(world);
  EXPECT_FALSE(value_of(verify_export(directory, world.anchor())).front_behind);
  // As it is between the two last steps of an export.
  write_file(directory / "checkpoint", as_bytes(world.notes[2]));
  EXPECT_EQ(value_of(verify_export(directory, world.anchor())).front_behind, World::size_of(world.notes[2]));
  // Of a size that the export has no checkpoint of, or newer than it.
  const ManifestHead head = head_of(directory);
  remove_note(directory, World::size_of(world.notes[2]));
  rewrite_manifest(directory, head);
  expect_found(verify(directory, world.anchor()), "checkpoint");
  const ledger::Checkpoint claimed =
      value_of(ledger::parse_checkpoint_text(value_of(ledger::parse_note(world.notes[1])).text));
  write_file(directory / "checkpoint", as_bytes(world.notes.back()));
  write_file(directory / kManifestPath,
             as_bytes(encode(ManifestHead{claimed.origin, claimed.size, claimed.root})));
  EXPECT_THAT(verify(directory, world.anchor()), FailsWith(Reason::kLogRollback));
  write_file(directory / "checkpoint", as_bytes(world.notes[1]));
  rewrite_manifest(directory, {claimed.origin, claimed.size, claimed.root});
  expect_found(verify(directory, world.anchor()), "MANIFEST");
}

TEST_F(Audit, TakesNoLineInFrontThatNobodyVouchesFor) {
  Lived world;
  write(world);
  // A line of a key that no policy knows says nothing, so nobody would see that it was added or changed.
  const std::string more = world.notes.back() + "— stranger.example AAAAAAAA\n";
  ASSERT_THAT(ledger::parse_note(more), Succeeds());
  write_file(directory / "checkpoint", as_bytes(more));
  expect_found(verify(directory, world.anchor()), "checkpoint");
  // The same checkpoint, cosigned again, is as good.
  world.scenario.advance(10s);
  const std::string again = world.scenario.cosign(3);
  ASSERT_NE(again, world.notes.back());
  world.notes.back() = again;
  const Bytes manifest = test::read_file(directory / kManifestPath);
  EXPECT_EQ(write(world).fetched, 0u);
  EXPECT_EQ(as_text(test::read_file(directory / "checkpoint")), again);
  EXPECT_EQ(test::read_file(directory / kManifestPath), manifest);
  EXPECT_EQ(value_of(verify_export(directory, world.anchor())).newest_cosigned.get() / 1000,
            world.scenario.now.get() / 1000);
}

// Grown is a log that crosses a full tile, with checkpoints on both sides.
struct Grown : World {
  Grown() {
    page = 40;
    while (scenario.entries.size() < 262) {
      scenario.granted();
      scenario.advance(20min);
      if (scenario.entries.size() % 3 == 0 || scenario.entries.size() > 250) cosign();
    }
  }
};

TEST_F(Audit, GrowsAcrossAFullTileToTheSameFilesAsAtOnce) {
  Grown world;
  const std::vector<std::string> notes = world.notes;
  ASSERT_GT(notes.size(), 12u);
  const auto size_at = [&](std::size_t i) { return World::size_of(notes[i]).get(); };
  std::uint64_t fetched = 0;
  for (std::size_t i = 0; i < notes.size(); ++i) {
    if (size_at(i) < 250 && i % 8 != 0) continue;
    world.notes.assign(notes.begin(), notes.begin() + static_cast<std::ptrdiff_t>(i + 1));
    const Exported exported = write(world);
    fetched += exported.fetched;
    EXPECT_EQ(exported.size.get(), size_at(i));
    const AuditReport report = value_of(verify_export(directory, world.anchor()));
    EXPECT_EQ(report.files, exported.files);
    EXPECT_EQ(report.bytes, exported.bytes);
    EXPECT_EQ(report.pending, 0u);
    // Every checkpoint that is there finds its tree: the C2SP way, a partial tile or else the full one.
    for (std::size_t k = 0; k <= i; ++k)
      for (const ledger::TileId& tile : value_of(ledger::tiles_between(TreeSize{0}, TreeSize{size_at(k)})))
        EXPECT_TRUE(fs::exists(directory / ledger::tile_path(tile)) ||
                    fs::exists(directory / ledger::tile_path({tile.level, tile.index})))
            << ledger::tile_path(tile) << " of " << size_at(k) << " in " << size_at(i);
  }
  EXPECT_EQ(fetched, world.scenario.entries.size());

  const auto same = [&](const ExportOptions& options) {
    const fs::path other = temporary / "other";
    fs::remove_all(other);
    value_of(write_export(other, world.anchor(), world, options));
    ASSERT_EQ(files_of(other), files_of(directory));
    for (const std::string& path : files_of(other))
      EXPECT_EQ(test::read_file(other / path), test::read_file(directory / path)) << path;
  };
  same({});
  same({.step = 100});  // in several exports, each of them complete
  EXPECT_EQ(write(world, {.since = 3}).fetched, world.scenario.entries.size() - 3);
}

TEST_F(Audit, KeepsAnExportForWhoReadsItWhileItGoesOn) {
  Grown world;
  const std::vector<std::string> notes = world.notes;
  while (World::size_of(world.notes.back()).get() > 250) world.notes.pop_back();
  const TreeSize before = World::size_of(world.notes.back());
  write(world);
  world.notes = notes;
  {
    ExportReader reader = value_of(ExportReader::open(directory));
    write(world);
    // It has gone on, and taken away nothing of what the reader has.
    EXPECT_EQ(reader.claimed().size, before);
    EXPECT_THAT(reader.leaf(LeafIndex{before.get() - 1}), Succeeds());
    EXPECT_EQ(value_of(reader.notes()).back(), before);
    const AuditReport report = value_of(verify_export(directory, world.anchor()));
    EXPECT_GT(report.pending, 0u);
    EXPECT_EQ(report.size.get(), world.scenario.entries.size());
  }
  EXPECT_EQ(write(world).fetched, 0u);
  EXPECT_EQ(value_of(verify_export(directory, world.anchor())).pending, 0u);

  // Verifying and following beside an export, at each of its changes: one or the other, and no false alarm.
  fs::remove_all(directory);
  world.notes.assign(notes.begin(), notes.end() - 2);
  write(world);
  world.notes = notes;
  std::size_t changes = 0;
  std::set<std::uint64_t> seen;
  DirectorySource on_disk{directory};
  Monitor monitor{world.anchor(), bookmark_at_start(world.anchor()), MonitorOptions{},
                  [](const Alarm& alarm, const Bookmark&) -> Status {
                    EXPECT_NE(alarm.name, "inconsistent") << alarm.what;
                    EXPECT_NE(alarm.name, "away") << alarm.what;
                    return Done{};
                  }};
  write(world, {.before_change = [&]() -> Status {
          // Who begins to read while partial tiles are taken away waits; this thread is both.
          const Descriptor root{::open(directory.c_str(), O_RDONLY | O_DIRECTORY)};
          if (::flock(root.get(), LOCK_SH | LOCK_NB) != 0) return Done{};
          EXPECT_THAT(monitor.look(on_disk, world.scenario.now), Succeeds());
          if (changes++ % 15 == 0)
            seen.insert(value_of(verify_export(directory, world.anchor(), {.threads = 0})).size.get());
          return Done{};
        }});
  EXPECT_GT(changes, 15u);
  EXPECT_THAT(seen, testing::Contains(World::size_of(notes[notes.size() - 3]).get()));
  EXPECT_THAT(monitor.look(on_disk, world.scenario.now), Succeeds());
  EXPECT_EQ(monitor.place().size.get(), world.scenario.entries.size());
}

TEST_F(Audit, WritesOneExportAtATimeIntoADirectory) {
  Lived world;
  bool asked = false;
  write(world, {.before_change = [&]() -> Status {
          if (std::exchange(asked, true)) return Done{};
          const auto second = write_export(directory, world.anchor(), world);
          EXPECT_THAT(second, FailsWith(Code::kConflict));
          EXPECT_THAT(second.error().what, testing::HasSubstr("another export writes"));
          return Done{};
        }});
  EXPECT_TRUE(asked);
  EXPECT_THAT(write_export(directory, world.anchor(), world), Succeeds());
}

// in_child runs something in a process of its own, and gives how that ended.
template <class Run>
int in_child(Run&& run) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(run());
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return status;
}

TEST_F(Audit, OutlivesKillsAndAFullDisk) {
  Lived world;
  const std::vector<std::string> notes = world.notes;
  world.notes.resize(2);
  write(world);
  world.notes = notes;
  const TreeSize before = World::size_of(notes[1]);
  for (const std::size_t at : {1u, 20u, 41u}) {
    const int status = in_child([&] {
      std::size_t changes = 0;
      (void)write_export(directory, world.anchor(), world, {.before_change = [&]() -> Status {
                           if (++changes == at) ::raise(SIGKILL);
                           return Done{};
                         }})
          .has_value();
      return 0;
    });
    ASSERT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(value_of(verify_export(directory, world.anchor())).size, before);
  }
  // No room for anything, for the larger files, and for MANIFEST alone.
  const auto largest = [&] {
    std::uintmax_t size = 0;
    for (const std::string& path : files_of(directory))
      size = std::max(size, fs::file_size(directory / path));
    return size;
  };
  for (const std::uintmax_t room : {std::uintmax_t{0}, std::uintmax_t{1000}, largest() - 1}) {
    const int status = in_child([&] {
      ::signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{room, room};
      if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 2;
      const auto full = write_export(directory, world.anchor(), world);
      return !full.has_value() && full.error().reason == Reason::kStorage ? 0 : 1;
    });
    EXPECT_EQ(status, 0) << room;
    EXPECT_EQ(value_of(verify_export(directory, world.anchor())).size, before);
  }
  // What a crash left half written is written again.
  const std::string pending = body_path(LeafIndex{before.get()});
  write_file(directory / pending, {});
  write(world);
  EXPECT_EQ(value_of(verify_export(directory, world.anchor())).size.get(), world.scenario.entries.size());
}

// At every step of an export the directory holds the one before, or the one after; and what was stopped goes
// on to the same bytes.
TEST_F(Audit, HoldsACompleteExportAtEveryStep) {
  Lived lived;
  for (const std::size_t before : {std::size_t{0}, std::size_t{2}, lived.notes.size()}) {
    // Of a first export there is nothing to lose: every seventh will do.
    const std::size_t stride = before == 0 ? 7 : 1;
    const std::vector<std::string> notes = lived.notes;
    const fs::path start = temporary / ("start" + std::to_string(before));
    if (before != 0) {
      lived.notes.resize(before);
      value_of(write_export(start, lived.anchor(), lived));
      lived.notes = notes;
    }
    std::size_t stops = 0;
    for (bool done = false; !done; stops += stride) {
      fs::remove_all(directory);
      if (before != 0) fs::copy(start, directory, fs::copy_options::recursive);
      std::size_t changes = 0;
      const auto stopped = write_export(directory, lived.anchor(), lived,
                                        {.step = 12, .before_change = [&]() -> Status {
                                           if (changes++ < stops) return Done{};
                                           return Error{Code::kUnavailable, Reason::kStorage, "killed"};
                                         }});
      done = stopped.has_value();
      const auto report = verify_export(directory, lived.anchor(), {.threads = 0});
      if (before == 0 && !fs::exists(directory / kManifestPath)) {
        EXPECT_THAT(report, FailsWith(Reason::kUnverified));
      } else {
        ASSERT_THAT(report, Succeeds()) << "stopped at change " << stops << " after " << before;
        if (before != 0) {
          EXPECT_GE(report->size, World::size_of(notes[before - 1]));
        }
      }
      // A second export makes it whole.
      value_of(write_export(directory, lived.anchor(), lived));
      if (stops % 5 != 0 && !done) continue;
      const AuditReport whole = value_of(verify_export(directory, lived.anchor(), {.threads = 0}));
      ASSERT_EQ(whole.size.get(), lived.scenario.entries.size());
      ASSERT_FALSE(whole.front_behind);
    }
    EXPECT_GT(stops, before == lived.notes.size() ? 0u : 60u);
  }
}
TEST_F(Audit, NoticesTwoHistories) {
  Lived world;
  write(world);
  const ManifestHead head = head_of(directory);
  // The log key and the witnesses have signed another tree of some size.
  ledger::Tree other;
  for (std::size_t i = 0; i < 5; ++i) other.append(crypto::sha256(as_bytes("another leaf")));
  const std::string forked = world.scenario.cosign(other, 4, world.scenario.now);
  write_file(directory / "checkpoints/5", as_bytes(forked));
  const auto width = static_cast<unsigned>(head.size.get());
  const Bytes tile = test::read_file(directory / ledger::tile_path({0, 0, width})),
              bundle = test::read_file(directory / ledger::bundle_path({0, width}));
  write_file(directory / ledger::tile_path({0, 0, 5}), ByteView{tile}.first(5 * 32));
  write_file(directory / ledger::bundle_path({0, 5}), ByteView{bundle}.first(5 * 68));
  rewrite_manifest(directory, head);
  const Status status = verify(directory, world.anchor());
  EXPECT_THAT(status, FailsWith(Reason::kLogFork));
  expect_found(status, "checkpoints/5");
  // An export that is continued finds it as well.
  EXPECT_THAT(write_export(temporary / "b", world.anchor(), world), Succeeds());
  world.notes.push_back(forked);
  std::rotate(world.notes.begin(), world.notes.end() - 1, world.notes.end());
  EXPECT_FALSE(write_export(temporary / "c", world.anchor(), world).has_value());
}

TEST_F(Audit, NoticesACheckpointThatTooFewWitnessesCosigned) {
  Lived world;
  write(world);
  const ManifestHead head = head_of(directory);
  const std::string few = world.scenario.cosign(2);
  write_file(directory / "checkpoint", as_bytes(few));
  write_file(directory / note_path(head.size), as_bytes(few));
  rewrite_manifest(directory, head);
  expect_found(verify(directory, world.anchor()), note_path(head.size));
}

TEST_F(Audit, TakesNoLogButTheOneThatTheTrustFilePins) {
  Lived world;
  write(world);
  follow::TrustAnchor other = world.anchor();
  other.genesis_policy = crypto::sha256(as_bytes("another policy"));
  const Status status = verify(directory, other);
  EXPECT_THAT(status, FailsWith(Reason::kTrustAnchor));
  expect_found(status, "bodies/000/000");
  other = world.anchor();
  other.origin = Origin{"eu.sallyport.corp.example/log/1"};
  expect_found(verify(directory, other), "checkpoint");
}

TEST_F(Audit, NoticesARootedBrokersGrantThatWitnessesCosigned) {
  World world;
  const OpenCase open = world.scenario.request({});
  value_of(world.scenario.approve(open.id, "alice"));  // one of three
  world.scenario.broker_is_rooted = true;
  const record::Case& one = world.scenario.state.cases.at(open.id);
  const record::Grant grant{.approvals = {one.approvals.at(0).digest},
                            .authority = world.scenario.origin().get(),
                            .case_id = open.id,
                            .decision = encode(*one.decision)};
  value_of(world.scenario.append(world.scenario.forge_grant(grant, world.scenario.activation(open, {}))));
  world.cosign(4);
  write(world);
  expect_found(verify(directory, world.anchor()), body_path(world.scenario.last_index()));
}

std::vector<CaseRow> rows_of(const fs::path& directory, const follow::TrustAnchor& anchor) {
  CaseTable table;
  const AuditReport report =
      value_of(verify_export(directory, anchor,
                             {.on_entry = [&](const record::State& state, const record::OpenedEntry& entry,
                                              LeafIndex index) { table.add(state, entry, index); }}));
  return std::move(table).finish(report.last_leaf);
}

TEST_F(Audit, TellsEachCaseInARow) {
  Lived world;
  value_of(world.scenario.change_policy([](test::SamplePolicy&) {}));
  value_of(world.scenario.revoke(record::RevocationKind::kCase, to_hex(world.access.id)));
  const OpenCase expired = world.scenario.request({});
  world.scenario.advance(2h);
  value_of(world.scenario.revoke(record::RevocationKind::kPerson, test::SampleCompany::id("mona")));
  world.cosign();
  write(world);
  const std::vector<CaseRow> rows = rows_of(directory, world.anchor());
  const auto count = [&](const Filter& filter) {
    return std::count_if(rows.begin(), rows.end(), [&](const CaseRow& row) { return filter.takes(row); });
  };
  EXPECT_EQ(count({}), static_cast<std::ptrdiff_t>(rows.size()));
  EXPECT_EQ(count({.type = record::CaseType::kAccess}), 4);
  EXPECT_EQ(count({.type = record::CaseType::kPolicy}), 2);  // version 1 too
  EXPECT_EQ(count({.type = record::CaseType::kRevocation}), 2);
  EXPECT_EQ(count({.outcome = Outcome::kGranted}), 1);
  EXPECT_EQ(count({.outcome = Outcome::kRefused}), 1);
  EXPECT_EQ(count({.outcome = Outcome::kDenied}), 1);
  EXPECT_EQ(count({.outcome = Outcome::kExpired}), 1);
  EXPECT_EQ(count({.person = "wei"}), 1);
  EXPECT_EQ(count({.person = test::SampleCompany::id("wei")}), 1);
  EXPECT_EQ(count({.person = "we"}), 0);
  EXPECT_EQ(count({.region = "cn", .type = record::CaseType::kAccess}), 1);
  EXPECT_EQ(count({.approver = "dana", .type = record::CaseType::kAccess}), 1);
  EXPECT_EQ(count({.rule = "us-oncall-to-user-db"}), 3);
  EXPECT_EQ(count({.text = "REPLICA"}), 4);
  EXPECT_EQ(count({.text = "not planned"}), 1);
  EXPECT_EQ(count({.host = "db-7", .resource = "user-db", .account = "dbadmin"}), 4);
  EXPECT_EQ(count({.host = "db"}), 0);

  const auto found =
      std::find_if(rows.begin(), rows.end(), [&](const CaseRow& row) { return row.id == world.access.id; });
  ASSERT_NE(found, rows.end());
  EXPECT_EQ(found->outcome, Outcome::kGranted);
  EXPECT_EQ(found->person, test::SampleCompany::id("erin"));
  EXPECT_EQ(found->person_region, "us");
  EXPECT_EQ(found->machine, "laptop");
  EXPECT_EQ(found->address, "10.20.4.17");
  EXPECT_EQ(found->reason, "INC-4711: replica lag");
  EXPECT_THAT(found->rules, testing::ElementsAre("us-oncall-to-user-db"));
  EXPECT_THAT(found->approved_by,
              testing::ElementsAre(test::SampleCompany::id("alice"), test::SampleCompany::id("bob"),
                                   test::SampleCompany::id("dana")));
  EXPECT_EQ(found->leases, 1u);
  EXPECT_EQ(found->sessions, 1u);
  EXPECT_TRUE(found->ended);
  EXPECT_EQ(count({.from = found->opened, .to = UnixMillis{found->opened.get() + 1}}), 1);
  EXPECT_EQ(count({.to = found->opened}), count({}) - count({.from = found->opened}));
}

// Machines that one signature of each approver enrolled: a row for each, with who approved it.
TEST_F(Audit, TellsOfMachinesThatListsEnrolled) {
  World world;
  std::vector<test::SoftTpm> tpms(2);
  std::vector<CaseId> cases;
  for (test::SoftTpm& tpm : tpms) {
    cases.push_back(crypto::random_case_id());
    value_of(world.scenario.append(Kind::kEnrolmentRequested, cases.back(),
                                   world.scenario.enrolment_request(tpm, {}, cases.back())));
  }
  for (const char* person : {"frank", "grace"}) {
    const Bytes list = world.scenario.make_list(cases, person);
    for (const CaseId& id : cases) value_of(world.scenario.list_in(id, list));
  }
  const LeafIndex newest = world.scenario.last_index();
  for (const CaseId& id : cases)
    value_of(world.scenario.append(value_of(
        record::compose_enrolment(world.scenario.state, id, world.scenario.now, crypto::random_nonce()))));
  world.cosign();
  write(world);
  EXPECT_THAT(verify_both(directory, world.anchor()), Succeeds());
  const std::vector<CaseRow> rows = rows_of(directory, world.anchor());
  for (const CaseId& id : cases) {
    const auto row = std::find_if(rows.begin(), rows.end(), [&](const CaseRow& one) { return one.id == id; });
    ASSERT_NE(row, rows.end());
    EXPECT_EQ(row->outcome, Outcome::kDone);
    EXPECT_THAT(row->approved_by,
                testing::ElementsAre(test::SampleCompany::id("frank"), test::SampleCompany::id("grace")));
  }
  const Told told = value_of(tell(world.scenario.entries[newest.get()]));
  EXPECT_EQ(told.who, test::SampleCompany::id("grace"));
  EXPECT_THAT(told.what, testing::HasSubstr("in a list of 2 machines"));
}

// Text of people is written by people who may mean harm.
TEST(AuditReportText, IsNoFormulaAndNoSecondField) {
  CaseRow row;
  row.reason = "=HYPERLINK(\"http://evil\",\"x\")";
  row.person = "  +1";
  row.account = "a,b";
  row.rules = {"-x", "y"};
  row.denial = "two\r\nlines";
  const std::string line = csv_line(row);
  EXPECT_THAT(line, testing::HasSubstr("\"'=HYPERLINK(\"\"http://evil\"\",\"\"x\"\")\""));
  EXPECT_THAT(line, testing::HasSubstr("\"'  +1\""));
  EXPECT_THAT(line, testing::HasSubstr("\"a,b\""));
  EXPECT_THAT(line, testing::HasSubstr("\"'-x y\""));
  EXPECT_THAT(line, testing::EndsWith("\"\r\n"));
  // As a reader of RFC 4180 takes it, each line has as many fields as the head.
  const auto fields = [](const std::string& text) {
    std::size_t count = 1;
    bool quoted = false;
    for (const char c : text) {
      if (c == '"') quoted = !quoted;
      if (c == ',' && !quoted) ++count;
    }
    return count;
  };
  EXPECT_EQ(fields(line), fields(csv_head()));
  EXPECT_THAT(csv_head(), testing::StartsWith("\"case\",\"kind\",\"outcome\",\"leaf\","));
}

TEST_F(Audit, ExplainsAnAccessWithWhatCameLater) {
  Lived world;
  const record::Dossier dossier = world.scenario.dossier(world.access);
  value_of(world.scenario.revoke(record::RevocationKind::kPerson, test::SampleCompany::id("erin")));
  world.scenario.advance(100h);  // the case is forgotten
  value_of(world.scenario.revoke(record::RevocationKind::kPerson, test::SampleCompany::id("mona")));
  world.cosign();
  write(world);
  const Explanation told = value_of(explain_from_export(dossier, directory, world.anchor()));
  std::string text = told.summary;
  for (const std::string& layer : told.layers) text += "\n" + layer;
  for (const char* part :
       {"erin@corp.example (region us) got 15 min as dbadmin on db-7", "INC-4711: replica lag",
        "alice@corp.example", "bob@corp.example", "dana@corp.example", "token erin-yk1",
        "2 of us-oncall and 1 of privacy", "10.20.4.17", "us-oncall-to-user-db", "lag.txt",
        "1 lease of this case", "session-opened", "erin@corp.example was revoked"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  EXPECT_NE(as_text(record::json::encode_canonical(told.json)).find("\"account\":\"dbadmin\""),
            std::string_view::npos);
  EXPECT_THAT(explain_from_export(record::to_travel(dossier), directory, world.anchor()), Succeeds());
}

// A dossier of before is of the record of before: an export has the log of then.
TEST_F(Audit, ExplainsAnAccessOfBeforeItsMachineWasEnrolledAgain) {
  Lived world;
  RecordScenario& company = world.scenario;
  const record::Dossier dossier = company.dossier(world.access);
  const std::string leaf =
      grouped(company.follower.find_device(company.machine("laptop").device())->enrolled.get());
  company.machine("laptop").extend(0, crypto::sha256(as_bytes("new firmware")));
  value_of(company.enrol(company.machine("laptop"), {.machine = "laptop-2"}));
  const std::string again = grouped(company.last_index().get());
  world.cosign();
  write(world);
  EXPECT_FALSE(explain(dossier, company.follower, world.anchor()).has_value());
  Explanation told = value_of(explain_from_export(dossier, directory, world.anchor()));
  const auto text = [&] {
    std::string out = told.summary;
    for (const std::string& layer : told.layers) out += "\n" + layer;
    return out;
  };
  EXPECT_THAT(text(), testing::HasSubstr("The machine was laptop, of region us, enrolled at leaf " + leaf));
  EXPECT_THAT(text(), testing::HasSubstr("the machine was enrolled again, by leaf " + again));
  EXPECT_THAT(text(), testing::Not(testing::HasSubstr("was revoked")));
  // And what became of it after that.
  value_of(company.revoke(record::RevocationKind::kLost, to_hex(company.machine("laptop").device())));
  world.cosign();
  write(world);
  told = value_of(explain_from_export(dossier, directory, world.anchor()));
  EXPECT_THAT(text(), testing::HasSubstr("the machine was lost"));
}

TEST_F(Audit, ExplainsNoDossierOfAnotherHistory) {
  Lived world, other;
  write(world);
  EXPECT_FALSE(
      explain_from_export(other.scenario.dossier(other.access), directory, world.anchor()).has_value());
  record::Dossier changed = world.scenario.dossier(world.access);
  changed.request_body.back() ^= 1;
  EXPECT_FALSE(explain_from_export(changed, directory, world.anchor()).has_value());
  // An export that ends before the grant.
  world.notes.resize(2);
  value_of(write_export(temporary / "short", world.anchor(), world));
  EXPECT_THAT(explain_from_export(world.scenario.dossier(world.access), temporary / "short", world.anchor()),
              FailsWith(Reason::kGateBehind));
}

// Watch is a monitor whose alarms are kept, and its place as after the newest.
struct Watch {
  std::vector<std::string> names;
  std::vector<std::uint64_t> leaves;
  Bookmark place;
  std::optional<Monitor> monitor;
  bool deaf = false;  // nobody takes what is told
  explicit Watch(World& world) : Watch(world, bookmark_at_start(world.anchor())) {}
  Watch(World& world, const Bookmark& from, unsigned threads = 3) : place(from) {
    monitor.emplace(world.anchor(), from, MonitorOptions{.threads = threads},
                    [this](const Alarm& alarm, const Bookmark& reached) {
                      if (deaf) return Status{Error{Code::kUnavailable, Reason::kStorage, "full"}};
                      names.emplace_back(alarm.name);
                      if (alarm.leaf) leaves.push_back(alarm.leaf->get());
                      place = reached;
                      return Status{Done{}};
                    });
  }
  Status look(Source& source, UnixMillis now) {
    const Status looked = monitor->look(source, now);
    if (looked.has_value()) place = monitor->place();
    return looked;
  }
};

TEST_F(Audit, TellsWhatSomebodyShouldLookAt) {
  Lived world;
  value_of(world.scenario.revoke(record::RevocationKind::kPerson, test::SampleCompany::id("mona")));
  value_of(world.scenario.change_policy([](test::SamplePolicy&) {}));
  world.cosign();
  Watch watch{world};
  ASSERT_THAT(watch.look(world, world.scenario.now), Succeeds());
  for (const char* name : {"policy", "enrolment-requested", "enrolment", "foreign-request", "refusal",
                           "denial", "revocation", "policy-proposed"})
    EXPECT_THAT(watch.names, testing::Contains(name));
  EXPECT_THAT(watch.names, testing::Not(testing::Contains("inconsistent")));
  EXPECT_TRUE(std::is_sorted(watch.leaves.begin(), watch.leaves.end()));
  EXPECT_EQ(watch.place.size.get(), world.scenario.entries.size());
  // What is no news is not told again, nor what no witness has cosigned yet.
  watch.names.clear();
  value_of(world.scenario.revoke(record::RevocationKind::kPerson, test::SampleCompany::id("wei")));
  ASSERT_THAT(watch.look(world, world.scenario.now), Succeeds());
  EXPECT_THAT(watch.names, testing::IsEmpty());
  world.cosign();
  ASSERT_THAT(watch.look(world, world.scenario.now), Succeeds());
  EXPECT_THAT(watch.names, testing::ElementsAre("revocation"));

  // An export is followed as the broker is.
  write(world);
  DirectorySource on_disk{directory};
  Watch other{world};
  ASSERT_THAT(other.look(on_disk, world.scenario.now), Succeeds());
  EXPECT_EQ(other.place, watch.place);
}

TEST_F(Audit, TellsOfAMachineThatIsStoppedUntilItIsEnrolledAgain) {
  Lived world;
  test::RecordScenario& scenario = world.scenario;
  test::SoftTpm& laptop = scenario.machine("laptop");
  laptop.clock.reset_count -= 1;
  const OpenCase back = scenario.request({});
  world.refuse(back);
  laptop.clock.reset_count += 5;
  world.refuse(scenario.request({}));  // for being stopped, which is told as any refusal
  world.cosign(4);
  Watch watch{world};
  ASSERT_THAT(watch.look(world, scenario.now), Succeeds());
  EXPECT_EQ(std::ranges::count(watch.names, "machine-stopped"), 1);
  write(world);
  const AuditReport report = value_of(verify_export(directory, world.anchor()));
  ASSERT_EQ(report.stopped.size(), 1u);
  EXPECT_EQ(report.stopped[0].name, "laptop");
  EXPECT_EQ(report.stopped[0].case_id, back.id);

  value_of(scenario.enrol(laptop, {.machine = "laptop"}));
  world.cosign(4);
  write(world);
  EXPECT_TRUE(value_of(verify_export(directory, world.anchor())).stopped.empty());
}

TEST_F(Audit, TellsNothingTwiceAndNothingNeverOverARestart) {
  Lived world;
  Watch whole{world};
  ASSERT_THAT(whole.look(world, world.scenario.now), Succeeds());
  ASSERT_GT(whole.leaves.size(), 3u);
  // Stopped after each alarm in turn, and begun again from the place that was kept with it.
  std::vector<std::uint64_t> leaves;
  Bookmark place = bookmark_at_start(world.anchor());
  for (std::size_t i = 0; i < whole.leaves.size(); ++i) {
    Monitor one{world.anchor(), value_of(parse_bookmark(encode(place))), MonitorOptions{},
                [&](const Alarm& alarm, const Bookmark& reached) -> Status {
                  if (leaves.size() > i) return Error{Code::kUnavailable, Reason::kStorage, "killed"};
                  leaves.push_back(alarm.leaf->get());
                  place = reached;
                  return Done{};
                }};
    (void)one.look(world, world.scenario.now).has_value();
  }
  EXPECT_EQ(leaves, whole.leaves);
  // What cannot be told stops the monitor.
  Watch deaf{world};
  deaf.deaf = true;
  EXPECT_THAT(deaf.look(world, world.scenario.now), FailsWith(Reason::kStorage));
}

TEST_F(Audit, TellsOfALogThatIsStillOldOrAwayOnce) {
  class Away : public Source {
   public:
    Result<record::EntryPage> entries(LeafIndex) override { return gone(); }
    Result<std::vector<std::string>> checkpoints(TreeSize) override { return gone(); }

   private:
    static Error gone() { return Error{Code::kUnavailable, Reason::kPeer, "no route"}; }
  };
  Lived world;
  Watch watch{world};
  Away away;
  ASSERT_THAT(watch.look(world, world.scenario.now), Succeeds());
  watch.names.clear();
  for (int i = 0; i < 2; ++i) EXPECT_THAT(watch.look(away, world.scenario.now), Succeeds());
  EXPECT_THAT(watch.names, testing::ElementsAre("away"));
  for (int i = 0; i < 2; ++i)
    EXPECT_THAT(watch.look(world, UnixMillis{world.scenario.now.get() + 600'000}), Succeeds());
  EXPECT_THAT(watch.names, testing::ElementsAre("away", "old"));
  Watch again{world, value_of(parse_bookmark(encode(watch.place)))};
  EXPECT_THAT(again.look(world, UnixMillis{world.scenario.now.get() + 600'000}), Succeeds());
  EXPECT_THAT(again.names, testing::IsEmpty());
  world.scenario.advance(25h);
  world.cosign();
  EXPECT_THAT(again.look(world, world.scenario.now), Succeeds());
  EXPECT_THAT(again.names, testing::ElementsAre("still"));
  world.scenario.advance(1h);
  EXPECT_THAT(again.look(world, world.scenario.now), Succeeds());
  EXPECT_THAT(again.names, testing::ElementsAre("still", "old"));
}

TEST_F(Audit, StopsAtALogThatIsNotOneHistory) {
  const auto refuses = [](World& world, Watch& watch) {
    watch.names.clear();
    const Status looked = watch.look(world, world.scenario.now);
    ASSERT_FALSE(looked.has_value());
    EXPECT_EQ(exit_code_of(looked.error()), 8) << describe(looked.error());
    EXPECT_THAT(watch.names, testing::ElementsAre("inconsistent"));
  };
  Lived world;
  {
    Watch watch{world};  // two roots of one size
    ASSERT_THAT(watch.look(world, world.scenario.now), Succeeds());
    ledger::Tree other;
    while (other.size() < world.scenario.tree.size()) other.append(crypto::sha256(as_bytes("another leaf")));
    world.notes.push_back(world.scenario.cosign(other, 4, world.scenario.now));
    refuses(world, watch);
    world.notes.pop_back();
  }
  {
    Watch watch{world};  // too few witnesses
    ASSERT_THAT(watch.look(world, world.scenario.now), Succeeds());
    world.notes.push_back(world.scenario.cosign(2));
    refuses(world, watch);
    world.notes.pop_back();
  }
  {
    Watch first{world};  // another log than until now, or a shorter one
    ASSERT_THAT(first.look(world, world.scenario.now), Succeeds());
    Bookmark place = first.place;
    place.root = crypto::sha256(as_bytes("another root"));
    Watch watch{world, place};
    refuses(world, watch);
    place = first.place;
    place.size = TreeSize{place.size.get() + 1};
    Watch longer{world, place};
    refuses(world, longer);
  }
  {
    Watch watch{world};  // a changed body
    world.edit_page = [](record::EntryPage& page) {
      for (record::Entry& entry : page.entries) entry.body.back() ^= 1;
    };
    refuses(world, watch);
  }
}

// Asked is a world that counts what is fetched from it.
struct Asked : Lived {
  std::size_t fetched = 0;
  std::optional<std::uint64_t> first;
  Result<record::EntryPage> entries(LeafIndex from) override {
    SP_TRY(record::EntryPage out, Lived::entries(from));
    fetched += out.entries.size();
    first = std::min(first.value_or(from.get()), from.get());
    return out;
  }
};

TEST_F(Audit, GoesOnFromAnExportAndFetchesOnlyWhatIsNew) {
  Asked world;
  world.page = 64;
  Watch before{world};
  ASSERT_THAT(before.look(world, world.scenario.now), Succeeds());
  write(world);
  const std::uint64_t exported = world.scenario.entries.size();
  const fs::path all = temporary / "all";
  value_of(world.scenario.revoke(record::RevocationKind::kPerson, test::SampleCompany::id("mona")));
  world.cosign();
  ASSERT_THAT(before.look(world, world.scenario.now), Succeeds());
  value_of(world.scenario.revoke(record::RevocationKind::kPerson, test::SampleCompany::id("wei")));
  world.cosign();
  value_of(write_export(all, world.anchor(), world));

  for (const unsigned threads : {0u, 3u})
    for (const auto& [from, size] : {std::pair{directory, exported}, std::pair{all, exported + 1}}) {
      SCOPED_TRACE(from);
      Watch after{world, before.place, threads};
      ASSERT_THAT(after.monitor->catch_up(from), Succeeds());
      EXPECT_EQ(after.monitor->folded().get(), size);
      EXPECT_THAT(after.names, testing::IsEmpty());
      world.first.reset();
      ASSERT_THAT(after.look(world, world.scenario.now), Succeeds());
      EXPECT_EQ(world.first, size);
      EXPECT_THAT(after.names, testing::ElementsAre("revocation"));
      EXPECT_THAT(after.leaves, testing::ElementsAre(exported + 1));
    }

  // An export that is not to be believed is refused by itself: it says nothing about the broker's log.
  const auto refuses = [&](const fs::path& from, const Bookmark& place, const std::string& what) {
    Watch after{world, place};
    const Status caught = after.monitor->catch_up(from);
    ASSERT_FALSE(caught.has_value()) << what;
    EXPECT_THAT(describe(caught.error()), testing::HasSubstr(what));
    EXPECT_EQ(exit_code_of(caught.error()), 8);
    EXPECT_THAT(after.names, testing::IsEmpty());
  };
  Bookmark other = before.place;
  other.root = crypto::sha256(as_bytes("another root"));
  refuses(all, other, "not the log that was followed");
  const fs::path body = all / body_path(LeafIndex{3});
  Bytes bytes = test::read_file(body);
  bytes.back() ^= 1;
  write_file(body, bytes);
  refuses(all, before.place, "leaf 3 ");
  Lived foreign;
  refuses(
      directory,
      [&] {
        Watch watch{foreign};
        value_of(watch.look(foreign, foreign.scenario.now));
        return watch.place;
      }(),
      "export");
}

TEST_F(Audit, HoldsTheLogAgainstTheCheckpointItKeptOverARestart) {
  Lived world;
  Watch first{world};
  ASSERT_THAT(first.look(world, world.scenario.now), Succeeds());
  EXPECT_EQ(first.place.note, world.notes.back());
  const auto refuses = [&](const Bookmark& place) {
    Watch watch{world, value_of(parse_bookmark(encode(place)))};
    const Status looked = watch.look(world, world.scenario.now);
    ASSERT_FALSE(looked.has_value());
    EXPECT_EQ(exit_code_of(looked.error()), 8);
    EXPECT_THAT(watch.names, testing::ElementsAre("inconsistent"));
  };
  // Killed while it told what that checkpoint has: the rest of it is still this checkpoint's.
  Bookmark killed = first.place;
  killed.size = TreeSize{2};
  killed.root = value_of(world.scenario.tree.root(killed.size));
  Watch rest{world, killed};
  EXPECT_THAT(rest.look(world, world.scenario.now), Succeeds());
  EXPECT_EQ(rest.place, first.place);
  ledger::Tree other;
  while (other.size() < world.scenario.tree.size()) other.append(crypto::sha256(as_bytes("another leaf")));
  killed.note = world.scenario.cosign(other, 4, world.scenario.now);
  refuses(killed);
  // A log that ends before it, or a broker that has none of its checkpoints.
  world.notes.pop_back();
  refuses(first.place);
  world.notes.clear();
  refuses(first.place);
}

// Killed before an alarm is told, before it is kept, after that, or in the middle of keeping it: each alarm
// is told in order, at least once, and again only the one that was not kept.
TEST_F(Audit, TellsEachAlarmAtLeastOnceHoweverOftenItIsKilled) {
  Lived world;
  world.page = 64;
  Watch whole{world};
  ASSERT_THAT(whole.look(world, world.scenario.now), Succeeds());
  const fs::path place = temporary / "place", told = temporary / "told";
  enum class Killed { kUntold, kTold, kKept, kKeeping };
  std::vector<std::uint64_t> expected;
  for (std::size_t i = 0;; ++i) {
    const auto when = static_cast<Killed>(i % 4);
    std::size_t kept = 0;
    for (std::size_t j = 0; j < i; ++j) kept += static_cast<Killed>(j % 4) == Killed::kKept ? 1 : 0;
    const int status = in_child([&] {
      Monitor monitor{world.anchor(), value_of(load_bookmark(place, world.anchor())), MonitorOptions{},
                      [&](const Alarm& alarm, const Bookmark& reached) -> Status {
                        if (when == Killed::kUntold) ::raise(SIGKILL);
                        std::ofstream{told, std::ios::app} << alarm.leaf->get() << std::endl;
                        if (when == Killed::kTold) ::raise(SIGKILL);
                        if (when == Killed::kKeeping) {
                          std::ofstream{place.string() + ".new"} << encode(reached).substr(0, 99);
                          ::raise(SIGKILL);
                        }
                        SP_CHECK(replace_file(place, as_bytes(encode(reached))));
                        ::raise(SIGKILL);
                        return Done{};
                      }};
      return monitor.look(world, world.scenario.now).has_value() ? 0 : 1;
    });
    if (WIFEXITED(status)) {  // nothing was left to tell
      EXPECT_EQ(WEXITSTATUS(status), 0);
      EXPECT_EQ(kept, whole.leaves.size());
      break;
    }
    ASSERT_LT(kept, whole.leaves.size());
    if (when != Killed::kUntold) expected.push_back(whole.leaves[kept]);
  }
  std::vector<std::uint64_t> leaves;
  std::ifstream file{told};
  for (std::uint64_t leaf = 0; file >> leaf;) leaves.push_back(leaf);
  EXPECT_EQ(leaves, expected);
  EXPECT_EQ(std::set<std::uint64_t>(leaves.begin(), leaves.end()),
            std::set<std::uint64_t>(whole.leaves.begin(), whole.leaves.end()));
}

TEST_F(Audit, RefusesAPlaceThatIsDamagedOrOfAnotherLog) {
  Lived world;
  Watch watch{world};
  ASSERT_THAT(watch.look(world, world.scenario.now), Succeeds());
  const std::string text = encode(watch.place);
  EXPECT_EQ(value_of(parse_bookmark(text)), watch.place);
  const Bookmark start = bookmark_at_start(world.anchor());
  EXPECT_EQ(value_of(parse_bookmark(encode(start))), start);

  for (std::size_t at = 0; at < text.size(); ++at) {
    std::string other = text;
    other[at] ^= 1;
    ASSERT_THAT(parse_bookmark(other), FailsWith(Code::kMalformed)) << at;
    ASSERT_THAT(parse_bookmark(text.substr(0, at)), FailsWith(Code::kMalformed)) << at;
  }
  for (const std::string& other : {text + "\n", " " + text}) EXPECT_FALSE(parse_bookmark(other).has_value());
  Bookmark beyond = watch.place;  // a checkpoint of less than was told
  beyond.size = TreeSize{beyond.size.get() + 1};
  EXPECT_FALSE(parse_bookmark(encode(beyond)).has_value());

  const fs::path file = temporary / "place";
  const auto why = [&](std::string_view bytes, const follow::TrustAnchor& anchor,
                       Reason reason = Reason::kMalformed) {
    write_file(file, as_bytes(bytes));
    const auto loaded = load_bookmark(file, anchor);
    EXPECT_THAT(loaded, FailsWith(reason));
    return loaded.has_value() ? std::string{} : loaded.error().what;
  };
  EXPECT_EQ(value_of(load_bookmark(file, world.anchor())), start);
  EXPECT_THAT(why(text.substr(0, 99), world.anchor()), testing::HasSubstr("damaged"));
  EXPECT_THAT(why("", world.anchor()), testing::HasSubstr("move it away"));
  EXPECT_THAT(why("sallyport-follow/v1 log 7 ab 0\n", world.anchor()), testing::HasSubstr("another version"));
  follow::TrustAnchor other = world.anchor();
  other.genesis_policy = crypto::sha256(as_bytes("another policy"));
  EXPECT_THAT(why(text, other, Reason::kUsage), testing::HasSubstr("another log"));
}

TEST(AuditLayout, SpellsEachPathInOneWay) {
  EXPECT_EQ(body_path(LeafIndex{0}), "bodies/000/000");
  EXPECT_EQ(body_path(LeafIndex{30'117}), "bodies/030/117");
  EXPECT_EQ(body_path(LeafIndex{1'234'567}), "bodies/x001/234/567");
  EXPECT_EQ(body_path(LeafIndex{1'000'000'000}), "bodies/x001/x000/000/000");
  for (const std::uint64_t index : {std::uint64_t{0}, std::uint64_t{999'999}, std::uint64_t{1'000'000},
                                    std::uint64_t{123'456'789'012}, ledger::kMaxTreeSize - 1})
    EXPECT_EQ(value_of(parse_place(body_path(LeafIndex{index}))).number, index);
  for (const char* path :
       {"", "MANIFEST", "checkpoints/01", "checkpoints/", "bodies/000", "bodies/000/000/000",
        "bodies/x000/000/000", "bodies/000/00a", "bodies/000/000/", "blobs/00/11", "tile/0/1",
        "bodies/../checkpoint", "checkpoint", "checkpoint/", "policies/", "policies/01", "policies/1\n"})
    EXPECT_THAT(parse_place(path), FailsWith(Code::kMalformed)) << path;
}

TEST(AuditLayout, TakesOneManifestForOneExport) {
  const ManifestHead head{Origin{"log.example"}, TreeSize{2}, crypto::sha256(as_bytes("root"))};
  const Manifest manifest{head,
                          {{crypto::sha256(as_bytes("a")), 1, "bodies/000/000"},
                           {crypto::sha256(as_bytes("b")), 2, "bodies/000/001"},
                           {crypto::sha256(as_bytes("c")), 3, "checkpoints/2"}}};
  const std::string text = encode(manifest);
  EXPECT_EQ(encode(value_of(parse_manifest(text))), text);
  EXPECT_THAT(parse_manifest(text + "\n"), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_manifest(std::string_view{text}.substr(0, text.size() - 1)), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_manifest(text + encode(ManifestLine{head.root, 0, "bodies/000/001"})),
              FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_manifest(encode(head) + encode(ManifestLine{head.root, 0, "bodies/000/002"})),
              FailsWith(Code::kMalformed));
}

// An auditor computes the state that a snapshot is of: a log of which log key and witnesses signed a snapshot
// with a machine of nobody's is found out, whoever has joined from it.
TEST(AuditSnapshot, IsReplayedLikeEveryLeaf) {
  Lived world;
  test::take_snapshot(world.scenario);
  world.scenario.advance(1h);
  world.scenario.request({});
  world.cosign();
  const TemporaryDirectory directory;
  value_of(write_export(directory / "honest", world.anchor(), world));
  EXPECT_THAT(verify_both(directory / "honest", world.anchor()), Succeeds());
  EXPECT_THAT(tell(world.scenario.entries[world.scenario.follower.newest_snapshot()->index.get()]),
              Succeeds());

  const std::uint64_t size = world.scenario.entries.size();
  const record::Snapshot forged{.authority = world.scenario.origin().get(),
                                .case_id = record::snapshot_case(world.scenario.origin(), size, Digest256{}),
                                .size = size,
                                .state = Digest256{}};
  const record::Entry entry = record::make_entry(
      Kind::kSnapshot, world.scenario.now, forged.case_id, ledger::kNoPredecessor,
      record::encode_envelope({record::payload_type(Kind::kSnapshot), record::encode(forged), {}}), {},
      Nonce{});
  world.scenario.entries.push_back(entry);
  world.scenario.tree.append(ledger::leaf_hash(entry.leaf));
  world.cosign();
  value_of(write_export(directory / "forged", world.anchor(), world));
  EXPECT_THAT(verify_both(directory / "forged", world.anchor()), FailsWith(Reason::kLogSnapshot));
}

}  // namespace
}  // namespace sallyport::client::auditor
