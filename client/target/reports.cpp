#include "client/target/reports.h"

#include <spdlog/spdlog.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "attestation/base/hex.h"
#include "attestation/record/times.h"
#include "attestation/sqlite/sqlite.h"

namespace sallyport::gate {
namespace {

using record::WhyClosed;
using sqlite::Database;
using sqlite::Statement;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using record::operator+;

constexpr milliseconds kOpeningPause{200};  // somebody waits for it
constexpr milliseconds kFirstPause{500}, kLongestPause{30'000};
constexpr milliseconds kGiveUpAfter = std::chrono::hours{48};  // the log has forgotten the case by then

// One row is one channel from the moment at which its number is taken: first its opening is sent (with the
// very same bytes, however often), then it is open, then its closing is sent. A recorded closing removes the
// row.
constexpr const char* kSchema = R"(
CREATE TABLE IF NOT EXISTS channels(case_id BLOB PRIMARY KEY, used INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS session(case_id BLOB NOT NULL, channel INTEGER NOT NULL, state INTEGER NOT NULL,
                                   opening BLOB NOT NULL, why INTEGER NOT NULL, bytes INTEGER NOT NULL,
                                   ended INTEGER NOT NULL, PRIMARY KEY(case_id, channel)) WITHOUT ROWID;
)";
enum State : std::uint64_t { kOpening = 1, kOpen = 2, kClosing = 3 };

struct Row {
  CaseId case_id;
  std::uint64_t channel = 0, state = 0, bytes = 0;
  Bytes opening;
  WhyClosed why = WhyClosed::kLost;
  UnixMillis ended;
};

// Whether the log has judged a report, so that the same one will never be taken.
bool is_final(const Error& error) {
  return error.code == Code::kConflict || error.code == Code::kDenied || error.code == Code::kUnverified ||
         error.code == Code::kMalformed || error.code == Code::kStale;
}

// Task is one opening that a session waits for.
struct Task {
  CaseId case_id;
  std::string account, address;
  std::mutex mutex;
  std::condition_variable done;
  std::optional<Result<Reports::Opened>> result;  // guarded by mutex
  bool abandoned = false;                         // guarded by mutex
};

}  // namespace

struct Reports::Impl {
  ReportsOptions options;
  std::unique_ptr<Recorder> recorder;
  std::unique_ptr<Database> db;

  mutable std::mutex mutex;  // guards db and all below
  std::condition_variable changed;
  std::deque<std::shared_ptr<Task>> tasks;
  bool stopping = false, closings_due = true;
  std::thread thread;

  // ---- the rows; called with `mutex` held

  Status put(const Row& row) {
    Statement insert{
        *db,
        "INSERT INTO session(case_id, channel, state, opening, why, bytes, ended) "
        "VALUES(?,?,?,?,?,?,?) ON CONFLICT(case_id, channel) DO UPDATE SET state=excluded.state, "
        "why=excluded.why, bytes=excluded.bytes, ended=excluded.ended"};
    return insert.bind(view(row.case_id))
        .bind(row.channel)
        .bind(row.state)
        .bind(row.opening)
        .bind(std::uint64_t{static_cast<std::uint8_t>(row.why)})
        .bind(row.bytes)
        .bind(row.ended.get())
        .run();
  }
  Status remove(const Row& row) {
    Statement statement{*db, "DELETE FROM session WHERE case_id = ? AND channel = ?"};
    return statement.bind(view(row.case_id)).bind(row.channel).run();
  }
  Result<std::uint64_t> used(const CaseId& case_id) {
    Statement select{*db, "SELECT used FROM channels WHERE case_id = ?"};
    SP_TRY(const bool found, select.bind(view(case_id)).step());
    return found ? select.integer(0) : std::uint64_t{0};
  }
  Status set_used(const CaseId& case_id, std::uint64_t count) {
    Statement insert{*db,
                     "INSERT INTO channels(case_id, used) VALUES(?,?) ON CONFLICT(case_id) DO UPDATE SET "
                     "used=excluded.used"};
    return insert.bind(view(case_id)).bind(count).run();
  }
  Result<std::vector<Row>> rows(State state) {
    Statement select{
        *db,
        "SELECT case_id, channel, state, opening, why, bytes, ended FROM session WHERE state = ? "
        "ORDER BY ended, case_id, channel"};
    select.bind(std::uint64_t{state});
    std::vector<Row> out;
    for (;;) {
      SP_TRY(const bool found, select.step());
      if (!found) return out;
      Row row;
      SP_TRY(const auto case_id, sqlite::exactly<16>(select.bytes(0)));
      row.case_id = CaseId{case_id};
      row.channel = select.integer(1);
      row.state = select.integer(2);
      row.opening = to_bytes(select.bytes(3));
      row.why = static_cast<WhyClosed>(select.integer(4));
      row.bytes = select.integer(5);
      row.ended = UnixMillis{select.integer(6)};
      out.push_back(std::move(row));
    }
  }

  // ---- the reporting thread

  Result<Bytes> envelope_of_opening(const CaseId& case_id, std::uint64_t channel, const std::string& account,
                                    const std::string& address) const {
    record::SessionOpened statement;
    statement.account = account;
    statement.address = address;
    statement.authority = options.authority;
    statement.case_id = case_id;
    statement.channel = channel;
    statement.host = options.host;
    statement.time = options.clock();
    SP_TRY(const record::Envelope envelope,
           record::sign_statement(record::payload_type(record::Kind::kSessionOpened),
                                  record::encode(statement), options.key, options.sign));
    return record::encode_envelope(envelope);
  }

  // send_opening sends a row's opening. What the log refuses for good leaves no row.
  Result<Opened> send_opening(Row& row) {
    auto submitted = recorder->submit({row.opening, {}});
    const std::lock_guard lock{mutex};
    if (!submitted) {
      if (is_final(submitted.error())) SP_CHECK(remove(row));
      return submitted.error();
    }
    row.state = kOpen;
    SP_CHECK(put(row));
    SP_TRY(const std::uint64_t before, used(row.case_id));
    SP_CHECK(set_used(row.case_id, std::max(before, row.channel)));
    return Opened{row.channel, submitted->leaf};
  }

  // settle_openings finds out what became of openings whose answer never came, which take their case's next
  // number: they are sent again, and closed.
  Status settle_openings(const std::optional<CaseId>& of_case) {
    std::vector<Row> unknown;
    {
      const std::lock_guard lock{mutex};
      SP_TRY(unknown, rows(kOpening));
    }
    for (Row& row : unknown) {
      if (of_case && row.case_id != *of_case) continue;
      const auto sent = send_opening(row);
      if (!sent && is_final(sent.error())) continue;
      if (!sent) return sent.error();
      const std::lock_guard lock{mutex};
      row.state = kClosing;
      row.why = WhyClosed::kLost;
      row.ended = options.clock();
      SP_CHECK(put(row));
      closings_due = true;
    }
    return Done{};
  }

  // pause_for tells whether the opening should be tried again, after a moment.
  bool pause_for(Task& task) {
    {
      std::unique_lock lock{mutex};
      if (changed.wait_for(lock, kOpeningPause, [&] { return stopping; })) return false;
    }
    const std::lock_guard lock{task.mutex};
    return !task.abandoned;
  }

  Result<Opened> open(Task& task) {
    {
      const std::lock_guard lock{task.mutex};
      if (task.abandoned) return Error{Code::kUnavailable, Reason::kPeerTimeout, "given up"};
    }
    SP_CHECK(settle_openings(task.case_id));
    for (int attempt = 0;; ++attempt) {
      Row row;
      row.case_id = task.case_id;
      row.state = kOpening;
      row.ended = options.clock();
      {
        const std::lock_guard lock{mutex};
        SP_TRY(const std::uint64_t count, used(task.case_id));
        row.channel = count + 1;
        SP_TRY(row.opening, envelope_of_opening(task.case_id, row.channel, task.account, task.address));
        SP_CHECK(put(row));
      }
      auto sent = send_opening(row);
      while (!sent && !is_final(sent.error()) && pause_for(task)) sent = send_opening(row);
      if (!sent && !is_final(sent.error())) {  // recorded or not: it is settled when the log can be reached
        const std::lock_guard lock{mutex};
        closings_due = true;
      }
      if (sent || attempt == 1 || sent.error().reason != Reason::kLogOrder) return sent;
      // Our own count is older than the log: state that was lost. The log knows better.
      SP_TRY(const std::uint64_t known, recorder->channels_of(task.case_id));
      const std::lock_guard lock{mutex};
      SP_CHECK(set_used(task.case_id, known));
    }
  }

  // answer gives a session its result. One that has given up meanwhile has its channel closed for it.
  void answer(Task& task, Result<Opened> result) {
    const std::scoped_lock lock{task.mutex, mutex};
    if (task.abandoned && result) {
      Row row;
      row.case_id = task.case_id;
      row.channel = result->channel;
      row.state = kClosing;
      row.ended = options.clock();
      if (!put(row)) spdlog::error("a channel that nobody waits for could not be stored as closed");
      closings_due = true;
    }
    task.result = std::move(result);
    task.done.notify_all();
  }

  // send_closings sends what is due. Errors: of the first that the log could not judge now, or of the last
  // that it did not take.
  Status send_closings() {
    std::vector<Row> due;
    Status outcome = Done{};
    {
      const std::lock_guard lock{mutex};
      SP_TRY(due, rows(kClosing));
      closings_due = false;
    }
    for (const Row& row : due) {
      {
        const std::lock_guard lock{mutex};
        if (stopping) return Done{};
        if (!tasks.empty()) {  // someone waits at the door; this can wait
          closings_due = true;
          return Done{};
        }
      }
      record::SessionClosed statement;
      statement.authority = options.authority;
      statement.bytes = row.bytes;
      statement.case_id = row.case_id;
      statement.channel = row.channel;
      statement.host = options.host;
      statement.why = row.why;
      // The end's own time as long as the log takes it (a statement is 5 minutes old at most), then the
      // present.
      const UnixMillis now = options.clock();
      statement.time = row.ended + milliseconds{240'000} >= now ? row.ended : now;
      SP_TRY(const record::Envelope envelope,
             record::sign_statement(record::payload_type(record::Kind::kSessionClosed),
                                    record::encode(statement), options.key, options.sign));
      const auto submitted = recorder->submit({record::encode_envelope(envelope), {}});
      const std::string name = "c-" + to_hex(row.case_id).substr(0, 8) + "/" + std::to_string(row.channel);
      if (submitted) {
        spdlog::info("session {} is recorded as closed, leaf {}", name, submitted->leaf);
      } else if (submitted.error().code == Code::kConflict) {
        spdlog::info("session {} was recorded as closed before", name);
      } else if (is_final(submitted.error()) && row.ended + kGiveUpAfter < now) {
        spdlog::error("the log never took the end of session {}: {}", name, describe(submitted.error()));
      } else if (is_final(submitted.error())) {
        outcome = submitted.error();
        continue;
      } else {
        return submitted.error();
      }
      const std::lock_guard lock{mutex};
      SP_CHECK(remove(row));
    }
    return outcome;
  }

  void run() {
    milliseconds pause = kFirstPause;
    auto retry_at = steady_clock::now();
    for (;;) {
      std::shared_ptr<Task> task;
      bool settle = false;
      {
        std::unique_lock lock{mutex};
        const auto ready = [&] { return stopping || !tasks.empty() || closings_due; };
        if (retry_at > steady_clock::now())
          changed.wait_until(lock, retry_at, [&] { return stopping || !tasks.empty(); });
        else
          changed.wait(lock, ready);
        if (stopping && tasks.empty()) return;
        if (!tasks.empty()) {
          task = tasks.front();
          tasks.pop_front();
        } else {
          settle = closings_due;
        }
      }
      if (task) {
        answer(*task, open(*task));
        continue;
      }
      if (!settle || retry_at > steady_clock::now()) continue;
      Status sent = settle_openings({});
      if (sent) sent = send_closings();
      if (sent) {
        pause = kFirstPause;
        continue;
      }
      spdlog::warn("the end of a session is not recorded yet: {}", describe(sent.error()));
      {
        const std::lock_guard lock{mutex};
        closings_due = true;
      }
      retry_at = steady_clock::now() + pause;
      pause = std::min(pause * 2, kLongestPause);
    }
  }
};

Reports::Reports(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Reports>> Reports::start(ReportsOptions options, std::unique_ptr<Recorder> recorder) {
  auto impl = std::unique_ptr<Impl>{
      new Impl{std::move(options), std::move(recorder), nullptr, {}, {}, {}, false, true, {}}};
  SP_TRY(impl->db, Database::open(impl->options.file.string()));
  SP_CHECK(impl->db->execute(kSchema));
  // Nothing outlives the service: what was open is over.
  SP_TRY(std::vector<Row> left, impl->rows(kOpen));
  for (Row& row : left) {
    row.state = kClosing;
    row.why = WhyClosed::kLost;
    row.ended = impl->options.clock();
    SP_CHECK(impl->put(row));
  }
  impl->thread = std::thread{[raw = impl.get()] { raw->run(); }};
  return std::unique_ptr<Reports>{new Reports{std::move(impl)}};
}

Reports::~Reports() {
  {
    const std::lock_guard lock{impl_->mutex};
    impl_->stopping = true;
    impl_->changed.notify_all();
  }
  impl_->thread.join();
}

Result<Reports::Opened> Reports::opened(const CaseId& case_id, const std::string& account,
                                        const std::string& address) {
  const auto task = std::make_shared<Task>();
  task->case_id = case_id;
  task->account = account;
  task->address = address;
  {
    const std::lock_guard lock{impl_->mutex};
    if (impl_->stopping) return Error{Code::kUnavailable, "the gate is stopping"};
    impl_->tasks.push_back(task);
    impl_->changed.notify_all();
  }
  std::unique_lock lock{task->mutex};
  if (task->done.wait_for(lock, impl_->options.patience, [&] { return task->result.has_value(); }))
    return std::move(*task->result);
  task->abandoned = true;
  return Error{Code::kUnavailable, Reason::kPeerTimeout, "the opening was not recorded in time"};
}

Status Reports::closed(const CaseId& case_id, std::uint64_t channel, WhyClosed why, std::uint64_t bytes) {
  const std::lock_guard lock{impl_->mutex};
  Row row;
  row.case_id = case_id;
  row.channel = channel;
  row.state = kClosing;
  row.why = why;
  row.bytes = bytes;
  row.ended = impl_->options.clock();
  SP_CHECK(impl_->put(row));
  impl_->closings_due = true;
  impl_->changed.notify_all();
  return Done{};
}

std::size_t Reports::unreported() const {
  const std::lock_guard lock{impl_->mutex};
  Statement count{*impl_->db, "SELECT COUNT(*) FROM session WHERE state <> 2"};
  const auto found = count.step();
  return found && *found ? static_cast<std::size_t>(count.integer(0)) : 0;
}

}  // namespace sallyport::gate
