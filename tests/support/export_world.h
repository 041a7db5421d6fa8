#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "attestation/crypto/digest.h"
#include "attestation/crypto/random.h"
#include "client/auditor/verify_export.h"
#include "client/auditor/write_export.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"

// What the tests of exports share: a broker to export from, and what is done to an export.
namespace sallyport::client::auditor {

namespace fs = std::filesystem;

// World is a scenario that keeps the cosigned checkpoints of its way, as a broker does.
class World : public Source {
 public:
  explicit World(const std::function<void(test::SampleCompany&)>& change = {}) : scenario(change) {}
  test::RecordScenario scenario;
  std::vector<std::string> notes;
  std::size_t page = 3;     // entries in a page
  std::set<CaseId> erased;  // cases whose bodies the broker has no more
  // What the broker sends, where it lies.
  std::function<void(record::EntryPage&)> edit_page = {};

  void cosign(std::size_t witnesses = 3) { notes.push_back(scenario.cosign(witnesses)); }
  follow::TrustAnchor anchor() const { return {scenario.origin(), scenario.genesis}; }

  Result<record::EntryPage> entries(LeafIndex from) override {
    record::EntryPage out{.from = from, .entries = {}};
    for (std::size_t i = from.get(); i < scenario.entries.size() && out.entries.size() < page; ++i) {
      const record::Entry& entry = scenario.entries[i];
      out.entries.push_back(erased.contains(entry.leaf.case_id) ? record::Entry{entry.leaf, {}, {}, {}}
                                                                : entry);
    }
    if (edit_page) edit_page(out);
    return out;
  }
  Result<std::vector<std::string>> checkpoints(TreeSize from) override {
    std::vector<std::string> out;
    for (const std::string& note : notes)
      if (size_of(note) >= from && out.size() < 2) out.push_back(note);
    return out;
  }
  static TreeSize size_of(const std::string& note) {
    return test::value_of(ledger::parse_checkpoint_text(test::value_of(ledger::parse_note(note)).text)).size;
  }

  void refuse(const test::OpenCase& open) {
    test::value_of(scenario.append(test::value_of(
        record::compose_refusal(scenario.state, open.id, scenario.now, crypto::random_nonce()))));
  }
};

inline Status verify(const fs::path& directory, const follow::TrustAnchor& anchor, unsigned threads = 3) {
  const auto report = verify_export(directory, anchor, {.threads = threads});
  if (!report.has_value()) return report.error();
  return Done{};
}

// verify_both expects one verdict, in the same words, of one thread and of many.
inline Status verify_both(const fs::path& directory, const follow::TrustAnchor& anchor) {
  const Status alone = verify(directory, anchor, 0), ahead = verify(directory, anchor, 3);
  EXPECT_EQ(alone.has_value(), ahead.has_value());
  if (!alone.has_value() && !ahead.has_value()) {
    EXPECT_EQ(describe(alone.error()), describe(ahead.error()));
    EXPECT_EQ(alone.error().reason, ahead.error().reason);
  }
  return ahead;
}

inline std::vector<std::string> files_of(const fs::path& directory) {
  std::vector<std::string> paths;
  EXPECT_THAT(walk(directory,
                   [&](const std::string& path) -> Status {
                     paths.push_back(path);
                     return Done{};
                   }),
              test::Succeeds());
  return paths;
}

inline void write_file(const fs::path& path, ByteView bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream file{path, std::ios::binary | std::ios::trunc};
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  file.close();
  ASSERT_TRUE(file.good()) << path;
}

// rewrite_manifest makes a MANIFEST anew for whatever is in the directory, as an attacker would.
inline void rewrite_manifest(const fs::path& directory, const ManifestHead& head) {
  Manifest manifest{.head = head, .lines = {}};
  for (const std::string& path : files_of(directory)) {
    if (path == kManifestPath || path == kCheckpointPath) continue;
    const Bytes bytes = test::read_file(directory / path);
    manifest.lines.push_back({crypto::sha256(bytes), bytes.size(), path});
  }
  write_file(directory / kManifestPath, as_bytes(encode(manifest)));
}
inline ManifestHead head_of(const fs::path& directory) {
  const Descriptor manifest = test::value_of(open_manifest(directory));
  return test::value_of(ManifestReader::open(manifest)).head();
}

// expect_found: the verification fails with exit code 8 and names `place`.
inline void expect_found(const Status& status, const std::string& place) {
  ASSERT_FALSE(status.has_value()) << "unnoticed: " << place;
  ASSERT_EQ(exit_code_of(status.error()), 8) << describe(status.error());
  ASSERT_NE(status.error().what.find(place), std::string::npos)
      << place << " is not in: " << describe(status.error());
}

}  // namespace sallyport::client::auditor
