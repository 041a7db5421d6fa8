// What a long log of append_log's costs those who replay it. One step a process, so that the most memory it
// used is that step's alone.

#include <sys/resource.h>

#include <iostream>

#include "attestation/ledger/compact_range.h"
#include "attestation/net/tls.h"
#include "attestation/program/files.h"
#include "broker/store/store.h"
#include "client/auditor/verify_export.h"
#include "client/auditor/write_export.h"
#include "tests/bench/floor.h"
#include "tests/bench/long_log.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"
#include "tests/support/process.h"

namespace sallyport::bench {
namespace {

namespace fs = std::filesystem;
using client::auditor::verify_export;
using test::value_of;
using Steady = std::chrono::steady_clock;

constexpr const char* kUsage =
    "measure_log cut LOG LEAVES TO       the log's first leaves, as a log of their own\n"
    "measure_log start LOG sallyportd    the broker, from its start to its open port\n"
    "measure_log export LOG TO           every file that an auditor reads\n"
    "measure_log audit EXPORT LOG SMALL  its replay, and the floor: the signature verifications of a small\n"
    "                                    export, on all cores, for as many as the large one has\n"
    "LOG is a directory of append_log's\n";

// Usage is time and processor time of all cores since it was made.
class Usage {
 public:
  double seconds() const { return std::chrono::duration<double>(Steady::now() - start_).count(); }
  double cpu() const { return cpu_seconds() - cpu_; }

 private:
  Steady::time_point start_ = Steady::now();
  double cpu_ = cpu_seconds();
};

void tell(const char* what, double value, const char* unit) {
  std::printf("%-24s %12.2f %s\n", what, value, unit);
  std::fflush(stdout);
}
void tell_memory() {
  tell("peak memory", memory_mib("VmHWM"), "MiB");
}

std::shared_ptr<store::Store> open_log(const fs::path& log) {
  return value_of(store::open_sqlite((log / "log.db").string()));
}
follow::TrustAnchor anchor_of(const fs::path& log) {
  return value_of(follow::parse_trust_file(as_text(value_of(program::read_whole(log / "trust.toml")))));
}

record::Entry with_blobs(store::Store& store, record::Entry entry) {
  for (const record::EvidenceItem& item : value_of(record::parse_body(entry.body)).items) {
    auto blob = value_of(store.find_blob(item.sha256));
    SP_ASSERT(blob.has_value());
    blob->type = item.type;
    entry.blobs.push_back(std::move(*blob));
  }
  return entry;
}

std::vector<record::Entry> read(store::Store& store, LeafIndex from, std::uint64_t count) {
  std::vector<record::Entry> entries;
  value_of(store.read(from, count, [&](store::StoredEntry stored) -> Status {
    entries.push_back(std::move(stored.entry));
    return Done{};
  }));
  for (record::Entry& entry : entries) entry = with_blobs(store, std::move(entry));
  return entries;
}

void cut(const fs::path& log, std::uint64_t leaves, const fs::path& to) {
  fs::create_directories(to);
  fs::copy_file(log / "trust.toml", to / "trust.toml");
  const auto from = open_log(log), into = open_log(to);
  ledger::CompactRange range;
  store::Head head = value_of(into->head());
  while (range.size().get() < leaves) {
    const auto entries = read(*from, LeafIndex{range.size().get()},
                              std::min<std::uint64_t>(4096, leaves - range.size().get()));
    SP_ASSERT(!entries.empty());
    std::vector<store::Subtree> subtrees;
    for (const record::Entry& entry : entries)
      range.append(ledger::leaf_hash(entry.leaf),
                   [&](unsigned level, std::uint64_t index, const Digest256& hash) {
                     if (store::is_kept(level)) subtrees.push_back({level, index, hash});
                   });
    const store::Head next{range.size(), range.root()};
    value_of(into->append(head, entries, subtrees, next));
    head = next;
  }
  for (TreeSize at{0};;) {
    const auto notes = value_of(from->cosigned(at, 256));
    for (const auto& note : notes) {
      if (note.size.get() > leaves) return;
      value_of(into->put_cosigned(note.size, note.note));
      value_of(into->put_signed(note.size, note.note));
      at = TreeSize{note.size.get() + 1};
    }
    if (notes.empty()) return;
  }
}

void start(const fs::path& log, const std::string& program) {
  const test::TemporaryDirectory files;
  const auto key = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);
  const SecretBytes pem = key.to_pem();
  std::ofstream{files / "key.pem"} << as_text(pem.expose());
  fs::permissions(files / "key.pem", fs::perms{0600});
  std::ofstream{files / "cert.pem"} << value_of(net::make_self_signed_certificate(key, {"localhost"}));
  fs::permissions(log, fs::perms{0700});
  const Usage usage;
  // No keyguard: what is measured comes before the first word to it.
  test::Process broker{
      {program, "serve", "--state", log.string(), "--trust", (log / "trust.toml").string(), "--keyguard",
       (files / "none").string(), "--listen", "127.0.0.1:0", "--tls-key", (files / "key.pem").string(),
       "--tls-cert", (files / "cert.pem").string(), "--port-file", (files / "port").string()},
      files / "log"};
  const bool up = test::poll_until([&] { return fs::exists(files / "port") || !broker.running(); },
                                   std::chrono::seconds{3600});
  if (!up || !broker.running()) {
    std::cerr << broker.output();
    std::exit(1);
  }
  tell("ready after", usage.seconds(), "s");
  tell("peak memory", memory_mib("VmHWM", std::to_string(broker.pid())), "MiB");
  broker.send(SIGTERM);
  broker.wait(std::chrono::seconds{60});
  rusage used{};
  getrusage(RUSAGE_CHILDREN, &used);
  tell("processor time", static_cast<double>(used.ru_utime.tv_sec + used.ru_stime.tv_sec), "s");
}

// Pages of what the store has, as a broker sends them.
class StoreSource : public client::auditor::Source {
 public:
  explicit StoreSource(std::shared_ptr<store::Store> store) : store_(std::move(store)) {}
  Result<record::EntryPage> entries(LeafIndex from) override {
    return record::EntryPage{.from = from, .entries = read(*store_, from, record::kMaxPageEntries)};
  }
  Result<std::vector<std::string>> checkpoints(TreeSize from) override {
    SP_TRY(auto notes, store_->cosigned(from, 256));
    std::vector<std::string> out;
    for (auto& note : notes) out.push_back(std::move(note.note));
    return out;
  }

 private:
  std::shared_ptr<store::Store> store_;
};

void write(const fs::path& log, const fs::path& to) {
  StoreSource source{open_log(log)};
  const Usage usage;
  const auto exported = value_of(client::auditor::write_export(to, anchor_of(log), source));
  tell("leaves", static_cast<double>(exported.size.get()), "");
  tell("time", usage.seconds(), "s");
  tell("processor time", usage.cpu(), "s");
  tell("files", static_cast<double>(exported.files), "");
  tell("bytes", static_cast<double>(exported.bytes) / (1 << 20), "MiB");
  tell_memory();
}

struct Audited {
  client::auditor::AuditReport report;
  double seconds = 0, cpu = 0;
};
Audited audit(const fs::path& exported, const follow::TrustAnchor& anchor) {
  const Usage usage;
  auto report = value_of(verify_export(exported, anchor));
  return {std::move(report), usage.seconds(), usage.cpu()};
}

// The floor's verifications are noted, in another process, from an export that is small enough: the mix of a
// long log is the same all along.
void audit(const fs::path& exported, const fs::path& log, const fs::path& small) {
  const auto anchor = anchor_of(log);
  const Audited ours = audit(exported, anchor);
  const double leaves = static_cast<double>(ours.report.size.get());
  tell("leaves", leaves, "");
  tell("time", ours.seconds, "s");
  tell("processor time", ours.cpu, "s");
  tell("time a leaf", 1e6 * ours.seconds / leaves, "us");
  tell("processor time a leaf", 1e6 * ours.cpu / leaves, "us");
  tell("checkpoints", static_cast<double>(ours.report.checkpoints), "");
  tell_memory();

  const VerificationsOf floor{[&] { value_of(verify_export(small, anchor, {.threads = 0})); }};
  const Audited of_small = audit(small, anchor);
  const double share = leaves / static_cast<double>(of_small.report.size.get());
  double seconds = 0, cpu = 0;
  constexpr int kTimes = 5;
  for (int i = 0; i < kTimes; ++i) {
    const Usage usage;
    floor.replay(std::thread::hardware_concurrency());
    seconds += usage.seconds() / kTimes;
    cpu += usage.cpu() / kTimes;
  }
  tell("signatures a leaf", static_cast<double>(floor.count()) * share / leaves, "");
  tell("floor", seconds * share, "s");
  tell("floor, processor time", cpu * share, "s");
  tell("of_floor", seconds * share / ours.seconds, "");
  tell("cpu_of_floor", cpu * share / ours.cpu, "");
  tell("small: cpu_of_floor", cpu / of_small.cpu, "");
}

int run(const std::vector<std::string>& words) {
  const std::string verb = words.empty() ? "" : words[0];
  if (verb == "cut" && words.size() == 4)
    cut(words[1], std::stoull(words[2]), words[3]);
  else if (verb == "start" && words.size() == 3)
    start(words[1], words[2]);
  else if (verb == "export" && words.size() == 3)
    write(words[1], words[2]);
  else if (verb == "audit" && words.size() == 4)
    audit(words[1], words[2], words[3]);
  else {
    std::cerr << kUsage;
    return 64;
  }
  return 0;
}

}  // namespace
}  // namespace sallyport::bench

int main(int argc, char** argv) {
  return sallyport::bench::run({argv + 1, argv + argc});
}
