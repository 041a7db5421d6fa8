#include <unistd.h>

#include <fstream>
#include <iostream>

#include "attestation/follow/follower.h"
#include "client/auditor/directory.h"
#include "client/auditor/verify_export.h"
#include "client/connection/settings.h"
#include "tests/support/fault_house.h"
#include "tests/support/matchers.h"

// `sallyport audit export`, struck at each of its calls on the export's files: what it leaves is the export
// of before or that of after, and the next one makes it whole. Which points are run:
// tests/support/fault_points.h.
namespace sallyport::test {
namespace {

namespace fs = std::filesystem;
using client::auditor::verify_export;

constexpr std::uint64_t kPoints = 8;  // of every run

// Auditor is olga at a terminal, with a token and a program of her own.
class Auditor {
 public:
  explicit Auditor(House& house) : house_(house), faults_(house.directory / "export-faults") {
    house_.world.hsm.add_token("olga");
    const SecretBytes pem = house_.world.company.company.token("olga").to_pem();
    write(house_.directory / "olga.pem", pem.expose());
    Process import{
        {"/usr/bin/softhsm2-util", "--import", (house_.directory / "olga.pem").string(), "--token", "olga",
         "--label", "sallyport-sign", "--id", "01", "--pin", std::string{TemporarySoftHsm::kPin}},
        house_.directory / "import.log"};
    EXPECT_EQ(import.wait(), 0) << import.output();
    client::Settings settings;
    settings.directory = house_.directory / "olga";
    settings.anchor = anchor();
    settings.url = house_.world.url();
    settings.tcti = "none";
    settings.token = house_.world.hsm.uri("olga");
    settings.person = SampleCompany::id("olga");
    EXPECT_THAT(client::save_settings(settings), Succeeds());
    EXPECT_THAT(follow::Follower::create(settings.follow_file(), settings.anchor), Succeeds());
  }

  FaultFile& faults() { return faults_; }
  follow::TrustAnchor anchor() const { return {house_.world.company.origin(), house_.world.company.genesis}; }

  // run_export gives exit code and output.
  std::pair<int, std::string> run_export(const fs::path& to) {
    std::vector<std::string> environment = faults_.environment("/export/");
    environment.push_back("SALLYPORT_CONFIG=" + (house_.directory / "olga").string());
    Process exporting{{SALLYPORT_PROGRAM, "audit", "export", to.string(), "--pin-file",
                       house_.world.hsm.pin_file().string()},
                      house_.directory / ("export-" + std::to_string(runs_++) + ".log"),
                      environment};
    const int code = exporting.wait();
    return {code, exporting.output()};
  }
  // size_of gives how many leaves are verified; none where there is no export yet.
  Result<std::uint64_t> size_of(const fs::path& at) const {
    SP_TRY(const auto report, verify_export(at, anchor(), {.threads = 0}));
    return report.size.get();
  }

 private:
  static void write(const fs::path& path, ByteView bytes) {
    std::ofstream{path, std::ios::binary}.write(reinterpret_cast<const char*>(bytes.data()),
                                                static_cast<std::streamsize>(bytes.size()));
    fs::permissions(path, fs::perms{0600});
  }
  House& house_;
  FaultFile faults_;
  int runs_ = 0;
};

// files_of gives all of an export. Of checkpoints the names alone: a witness may have cosigned one again.
std::map<std::string, Bytes> files_of(const fs::path& at) {
  std::map<std::string, Bytes> files;
  const auto take = [&](const std::string& path) -> Status {
    files[path];
    if (path.starts_with("checkpoint") || path == client::auditor::kManifestPath) return Done{};
    SP_TRY(files[path], client::auditor::read_file(at, path));
    return Done{};
  };
  EXPECT_THAT(client::auditor::walk(at, take), Succeeds());
  return files;
}

class Exports {
 public:
  Exports() {
    for (const char* work : {"first", "more"}) {
      if (work == std::string{"more"}) {
        export_whole(before());
        append();
      }
      begin(work);
      auditor_.faults().begin_count();
      export_whole(struck());
      const auto some = points_of("export", work, auditor_.faults().calls());
      points_.insert(points_.end(), some.begin(), some.end());
    }
    whole_ = files_of(struck());
    from_ = value_of(auditor_.size_of(before()));
    size_ = value_of(auditor_.size_of(struck()));
    EXPECT_LT(from_, size_);
  }
  const std::vector<Point>& points() const { return points_; }

  void run(const Point& point) {
    begin(point.work);
    FaultFile& faults = auditor_.faults();
    faults.arm(point.fault, point.at);
    const auto [code, output] = auditor_.run_export(struck());
    faults.disarm();
    const bool hit = faults.struck();
    for (const char* never : {"broken promise", "terminate called", "[internal]", "Sanitizer"})
      EXPECT_EQ(output.find(never), output.npos) << output;
    if (point.fault.kills() && hit) {
      EXPECT_EQ(code, 128 + SIGKILL) << output;
    } else if (code != 0) {
      EXPECT_TRUE(hit) << output;
      EXPECT_EQ(code, 9) << output;
      EXPECT_NE(output.find("[storage]"), output.npos) << output;
    }
    // What is there is what was, or what was to be; before the first there is none.
    const auto left = auditor_.size_of(struck());
    const bool none = !fs::exists(struck() / client::auditor::kManifestPath);
    if (none)
      EXPECT_TRUE(point.work == "first" && code != 0) << output;
    else
      EXPECT_TRUE(left.has_value() &&
                  (*left == size_ || (point.work == "more" && *left == from_ && code != 0)))
          << (left.has_value() ? std::to_string(*left) : describe(left.error())) << " after " << code
          << output;
    // The next one makes of it what one makes at once.
    export_whole(struck());
    EXPECT_EQ(value_of(auditor_.size_of(struck())), size_);
    EXPECT_TRUE(files_of(struck()) == whole_) << "the export is another than one that was not struck";
    ++outcomes_[point.work + " " + point.fault.name + ": " +
                (!hit        ? "not reached"
                 : code == 0 ? "went on"
                             : "ended with " + std::to_string(code)) +
                (none                                 ? ", nothing there"
                 : left.has_value() && *left == size_ ? ", as after"
                                                      : ", as before")];
  }
  void tell() const {
    for (const auto& [what, count] : outcomes_) std::cout << "  " << count << " x " << what << "\n";
  }

 private:
  fs::path before() const { return house_.directory / "before" / "export" / ""; }
  fs::path struck() const { return house_.directory / "struck" / "export" / ""; }
  void begin(const std::string& work) {
    fs::remove_all(struck());
    fs::create_directories(struck());
    if (work == "more") fs::copy(before(), struck(), fs::copy_options::recursive);
  }
  void export_whole(const fs::path& to) {
    fs::create_directories(to);
    const auto [code, output] = auditor_.run_export(to);
    EXPECT_EQ(code, 0) << output;
  }
  void append() {
    const Work clients{house_, std::nullopt};
    EXPECT_TRUE(poll_until([&] { return clients.done(); })) << clients.refusal();
  }

  House house_;
  Auditor auditor_{house_};
  std::vector<Point> points_;
  std::map<std::string, Bytes> whole_;
  std::uint64_t from_ = 0, size_ = 0;
  std::map<std::string, std::size_t> outcomes_;
};

TEST(FaultExport, LeavesTheExportOfBeforeOrOfAfterAndIsMendedByTheNext) {
  Exports exports;
  run_points(exports.points(), kPoints, [&](const Point& point) { exports.run(point); });
  exports.tell();
}

}  // namespace
}  // namespace sallyport::test
