#include "broker/ledger/standby_link.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "attestation/base/hex.h"
#include "attestation/net/http_client.h"
#include "broker/ledger/stored_log.h"

namespace sallyport::ledger_service {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kPageBytes = 16u << 20;
constexpr std::size_t kMaxLateNotes = 1024, kMaxQueuedAttachments = 4096;
constexpr milliseconds kRetry{200}, kHeartbeat{2'000};
// Notes follow their entries a little later: a promoted standby can do without the newest, and a commit of
// entries need not wait for them.
constexpr milliseconds kNotesEvery{100};

Error away(std::string what) {
  return Error{Code::kUnavailable, Reason::kStandbyAway, std::move(what), Next::kRetryLater, 0};
}

std::string words(const Error& error) {
  if (error.reason == Reason::kStandbyAway) return error.what;
  return std::string{reason_name(error.reason)} + ": " + error.what;
}

Error fork(std::string what) {
  return Error{Code::kUnverified, Reason::kLogFork, std::move(what), Next::kCallOperator, 0};
}

}  // namespace

Result<KeyId> parse_key_pin(std::string_view text) {
  constexpr std::string_view kPrefix = "sha256:";
  if (text.starts_with(kPrefix))
    if (const auto key = parse_key_id(text.substr(kPrefix.size())); key.has_value()) return *key;
  return Error{Code::kMalformed, Reason::kUsage,
               "a key is named as sha256:HEX, the SHA-256 of its SubjectPublicKeyInfo"};
}

Result<StandbyAddress> parse_standby_address(std::string_view text) {
  const auto space = text.find(' ');
  const auto url = net::parse_http_url(text.substr(0, space));
  if (space == text.npos || !url.has_value() || !url->tls || !url->prefix.empty())
    return Error{Code::kMalformed, Reason::kUsage,
                 "a standby is named as 'https://HOST:PORT sha256:HEX': where it is, and its key"};
  SP_TRY(const KeyId key, parse_key_pin(text.substr(space + 1)));
  return StandbyAddress{std::string{text.substr(0, space)}, key};
}

struct StandbyLinks::Impl {
  struct One;

  std::shared_ptr<store::Store> store;
  Origin origin;
  StandbyOptions options;
  std::function<void(const Error&)> behind;

  std::mutex mutex;  // guards all below, and what One says that it guards
  std::condition_variable held, wake_links;
  store::Head head;
  std::uint64_t notes = 0;            // how often there were new ones
  std::deque<Digest256> attachments;  // the newest, the last of which is number `attachment_count`
  std::uint64_t attachment_count = 0;
  bool stop = false;
  std::vector<std::unique_ptr<One>> links;  // set once

  Impl(std::shared_ptr<store::Store> s, Origin o, StandbyOptions opts, std::function<void(const Error&)> b)
      : store(std::move(s)), origin(std::move(o)), options(std::move(opts)), behind(std::move(b)) {}
};

// One is the link to one standby, with a thread of its own.
struct StandbyLinks::Impl::One {
  Impl& all;
  StandbyAddress address;
  // Guarded by all.mutex:
  TreeSize acked{0};
  std::uint64_t attachments_done = 0, notes_done = 0;
  std::deque<std::string> late;
  bool in_step = false, lags = false;  // lags: best effort does not wait for it until it has caught up
  std::string why = "it was not reached yet";
  // Of the thread alone:
  std::optional<net::HttpClient> client;
  Standing standing;
  TreeSize sent_signed{0}, sent_cosigned{0};
  std::string newest_cosigned;  // as it was sent
  steady_clock::time_point notes_from{};
  std::thread thread;  // last

  One(Impl& a, StandbyAddress where) : all(a), address(std::move(where)), thread([this] { run(); }) {}
  ~One() { thread.join(); }

  bool has_entries() const { return acked < all.head.size || attachments_done < all.attachment_count; }
  bool has_notes() const { return notes_done < all.notes || !late.empty(); }

  void run() {
    bool failed = false;
    for (;;) {
      {
        std::unique_lock lock{all.mutex};
        if (failed)
          all.wake_links.wait_for(lock, kRetry, [this] { return all.stop; });
        else if (has_notes())
          all.wake_links.wait_until(lock, notes_from, [this] { return all.stop || has_entries(); });
        else
          all.wake_links.wait_for(lock, kHeartbeat,
                                  [this] { return all.stop || has_entries() || has_notes(); });
        if (all.stop) return;
      }
      const Status done = step();
      failed = !done.has_value();
      if (failed) client.reset();
      tell(done);
    }
  }

  void tell(const Status& done) {
    const std::string trouble = done.has_value() ? std::string{} : words(done.error());
    {
      const std::lock_guard lock{all.mutex};
      if (trouble != why) {
        if (trouble.empty())
          spdlog::info("standby {} is reached", address.url);
        else
          spdlog::warn("standby {}: {}", address.url, trouble);
      }
      why = trouble;
      in_step = trouble.empty() && acked == all.head.size;
      if (in_step) lags = false;
    }
    all.held.notify_all();
  }

  Status step() {
    if (!client || !client->is_open()) {
      SP_CHECK(connect());
    } else {
      bool idle = false;
      {
        const std::lock_guard lock{all.mutex};
        idle = !has_entries() && !has_notes();
      }
      if (idle) {
        SP_TRY(const Bytes answer, call("GET", "/v1/standby", {}));
        SP_TRY(standing, parse_standing(answer));
      }
    }
    SP_CHECK(send_attachments());
    SP_CHECK(send_entries());
    return steady_clock::now() >= notes_from ? send_notes() : Status{Done{}};
  }

  Result<Bytes> call(std::string method, std::string target, Bytes body) {
    net::HttpRequest request;
    request.method = std::move(method);
    request.target = std::move(target);
    if (request.method == "POST") request.headers.push_back({"Content-Type", "application/octet-stream"});
    request.body = std::move(body);
    auto response = client->request(request);
    if (!response.has_value()) return away(response.error().what);
    if (response->status != 200) return parse_refusal(response->status, response->text());
    return std::move(response->body);
  }

  Status connect() {
    net::HttpClientOptions http;
    http.pins = {address.key};
    http.connect_timeout = all.options.wait;
    http.request_timeout = 2 * all.options.wait;
    http.max_body_bytes = 64 * 1024;
    auto connected = net::HttpClient::connect(address.url, http);
    if (!connected.has_value()) return away(connected.error().what);
    client = std::move(*connected);
    store::Head ours;
    std::uint64_t stored_files = 0;
    {
      const std::lock_guard lock{all.mutex};
      ours = all.head;
      stored_files = all.attachment_count;
    }
    const crypto::PrivateKey& key = all.options.key.value();
    SP_TRY(const crypto::Signature64 signature,
           key.sign_p256(hello_digest(client->exporter().value(), all.origin)));
    SP_TRY(const Bytes answer, call("POST", "/v1/standby/hello",
                                    encode(StandbyHello{key.public_key(), signature, all.origin, ours})));
    SP_TRY(standing, parse_standing(answer));
    if (standing.head.size > ours.size) {
      // It has compared our head with its own history: it is ours, and longer. We commit before we stream.
      Error error{Code::kUnverified, Reason::kLogRollback,
                  "standby " + address.url + " holds size " + std::to_string(standing.head.size.get()) +
                      ", this database ends at size " + std::to_string(ours.size.get()),
                  Next::kCallOperator, 0};
      all.behind(error);
      return error;
    }
    SP_CHECK(check_ours(standing.head));
    SP_CHECK(reconcile());
    sent_signed = standing.signed_size;
    sent_cosigned = TreeSize{0};
    if (standing.cosigned_size.get() != 0) sent_cosigned = standing.cosigned_size;
    newest_cosigned.clear();  // the newest is sent again: it may have been cosigned anew since
    const std::lock_guard lock{all.mutex};
    acked = standing.head.size;
    attachments_done = std::max(attachments_done, stored_files);
    notes_done = 0;
    return Done{};
  }

  Status check_ours(const store::Head& its) const {
    SP_TRY(const Digest256 root, root_at(*all.store, its.size));
    if (root == its.root) return Done{};
    return fork("it holds another history: size " + std::to_string(its.size.get()) + " with root " +
                to_hex(its.root) + ", here " + to_hex(root));
  }

  // reconcile sends every attachment that the standby lacks: it may have been away when one came.
  Status reconcile() {
    Digest256 after;
    for (;;) {
      SP_TRY(const auto digests, all.store->attachments(after, kMaxDigests));
      if (digests.empty()) return Done{};
      SP_CHECK(send_lacking(digests));
      after = digests.back();
    }
  }

  Status send_lacking(const std::vector<Digest256>& digests) {
    SP_TRY(const Bytes answer, call("POST", "/v1/standby/lacks", encode(digests)));
    SP_TRY(const auto lacking, parse_digests(answer));
    for (const Digest256& digest : lacking) {
      SP_TRY(const auto blob, all.store->find_blob(digest));
      if (!blob) return away("it asks for what was not offered");
      SP_CHECK(call("POST", "/v1/standby/attachment", encode(*blob)));
    }
    return Done{};
  }

  Status send_attachments() {
    std::vector<Digest256> digests;
    std::uint64_t upto = 0;
    {
      const std::lock_guard lock{all.mutex};
      upto = all.attachment_count;
      const std::uint64_t lacks = upto - attachments_done;
      if (lacks == 0) return Done{};
      if (lacks <= all.attachments.size())
        digests.assign(all.attachments.end() - static_cast<std::ptrdiff_t>(lacks), all.attachments.end());
    }
    std::sort(digests.begin(), digests.end());
    digests.erase(std::unique(digests.begin(), digests.end()), digests.end());
    if (digests.empty() || digests.size() > kMaxDigests)
      SP_CHECK(reconcile());
    else
      SP_CHECK(send_lacking(digests));
    {
      const std::lock_guard lock{all.mutex};
      attachments_done = upto;
    }
    all.held.notify_all();
    return Done{};
  }

  Status send_entries() {
    for (;;) {
      store::Head upto;
      {
        const std::lock_guard lock{all.mutex};
        if (acked >= all.head.size || all.stop) return Done{};
        upto = all.head;
      }
      StreamedEntries page;
      page.old_root = standing.head.root;
      page.page.from = LeafIndex{standing.head.size.get()};
      std::size_t bytes = 0;
      const std::uint64_t count =
          std::min<std::uint64_t>(upto.size.get() - page.page.from.get(), record::kMaxPageEntries);
      bool full = false;
      const Status read = all.store->read(page.page.from, count, [&](store::StoredEntry stored) -> Status {
        SP_TRY(record::Entry entry, with_blobs(*all.store, std::move(stored.entry), Attachments::kWithout));
        bytes += entry.body.size();
        for (const record::Blob& blob : entry.blobs) bytes += blob.bytes.size();
        full = bytes > kPageBytes && !page.page.entries.empty();
        if (full) return Error{Code::kInternal, "the page is full"};  // ends the reading
        page.page.entries.push_back(std::move(entry));
        return Done{};
      });
      if (!read.has_value() && !full) return read.error();
      const std::uint64_t end = page.page.from.get() + page.page.entries.size();
      SP_TRY(const Bytes answer, call("POST", "/v1/standby/entries", encode(page)));
      SP_TRY(const Standing now, parse_standing(answer));
      if (now.head.size.get() != end) return away("it holds another size than it was sent");
      SP_CHECK(check_ours(now.head));
      standing = now;
      {
        const std::lock_guard lock{all.mutex};
        acked = standing.head.size;
      }
      all.held.notify_all();
    }
  }

  Status send(NoteKind kind, std::vector<std::string> texts) {
    if (texts.empty()) return Done{};
    SP_TRY(const Bytes answer,
           call("POST", "/v1/standby/notes", encode(StreamedNotes{kind, std::move(texts)})));
    SP_TRY(standing, parse_standing(answer));
    return Done{};
  }

  // send_notes sends what is new: signed, cosigned, and the lines that came late.
  Status send_notes() {
    std::uint64_t upto = 0;
    std::vector<std::string> came_late;
    TreeSize holds{0};
    {
      const std::lock_guard lock{all.mutex};
      if (!has_notes()) return Done{};
      upto = all.notes;
      holds = acked;
      came_late.assign(late.begin(), late.end());
    }
    for (;;) {
      SP_TRY(const auto fresh, all.store->signed_notes(TreeSize{sent_signed.get() + 1}, kMaxStreamedNotes));
      std::vector<std::string> texts;
      for (const auto& [size, note] : fresh)
        if (size <= holds) texts.push_back(note);
      if (texts.empty()) break;
      const TreeSize last = fresh[texts.size() - 1].size;
      SP_CHECK(send(NoteKind::kSigned, std::move(texts)));
      sent_signed = last;
    }
    for (;;) {
      SP_TRY(const auto fresh, all.store->cosigned(sent_cosigned, kMaxStreamedNotes));
      std::vector<std::string> texts;
      std::optional<store::Store::SizedNote> last;
      for (const auto& one : fresh)
        if (one.size <= holds && (one.size != sent_cosigned || one.note != newest_cosigned)) {
          texts.push_back(one.note);
          last = one;
        }
      if (!last) break;
      SP_CHECK(send(NoteKind::kCosigned, std::move(texts)));
      sent_cosigned = last->size;
      newest_cosigned = last->note;
    }
    for (std::size_t i = 0; i < came_late.size(); i += kMaxStreamedNotes) {
      const auto from = came_late.begin() + static_cast<std::ptrdiff_t>(i);
      const auto to =
          came_late.begin() + static_cast<std::ptrdiff_t>(std::min(i + kMaxStreamedNotes, came_late.size()));
      SP_CHECK(send(NoteKind::kCosigned, {from, to}));
    }
    notes_from = steady_clock::now() + kNotesEvery;
    const std::lock_guard lock{all.mutex};
    notes_done = upto;
    for (std::size_t i = 0; i < came_late.size() && !late.empty(); ++i) late.pop_front();
    return Done{};
  }
};

StandbyLinks::StandbyLinks(std::shared_ptr<store::Store> store, Origin origin, store::Head head,
                           StandbyOptions options, std::function<void(const Error&)> behind)
    : impl_(std::make_unique<Impl>(std::move(store), std::move(origin), std::move(options),
                                   std::move(behind))) {
  impl_->head = head;
  for (const StandbyAddress& address : impl_->options.standbys)
    impl_->links.push_back(std::make_unique<Impl::One>(*impl_, address));
}

StandbyLinks::~StandbyLinks() {
  {
    const std::lock_guard lock{impl_->mutex};
    impl_->stop = true;
  }
  impl_->wake_links.notify_all();
  impl_->links.clear();
}

void StandbyLinks::holds(const store::Head& head) {
  {
    const std::lock_guard lock{impl_->mutex};
    impl_->head = head;
  }
  impl_->wake_links.notify_all();
}

void StandbyLinks::noted() {
  {
    const std::lock_guard lock{impl_->mutex};
    ++impl_->notes;
  }
  impl_->wake_links.notify_all();
}

void StandbyLinks::noted_late(std::string note) {
  {
    const std::lock_guard lock{impl_->mutex};
    for (const auto& link : impl_->links) {
      link->late.push_back(note);
      if (link->late.size() > kMaxLateNotes) link->late.pop_front();
    }
  }
  impl_->wake_links.notify_all();
}

void StandbyLinks::wake() {
  const std::lock_guard lock{impl_->mutex};  // so that who is about to wait does not miss it
  impl_->held.notify_all();
}

Status StandbyLinks::wait_held(TreeSize size, const std::function<bool()>& over) {
  std::unique_lock lock{impl_->mutex};
  const auto waits_for = [&](const Impl::One& link) {
    return link.acked < size && !(impl_->options.best_effort && link.lags);
  };
  const auto all_hold = [&] {
    return std::none_of(impl_->links.begin(), impl_->links.end(),
                        [&](const auto& l) { return waits_for(*l); });
  };
  impl_->held.wait_for(lock, impl_->options.wait, [&] { return all_hold() || over(); });
  if (all_hold()) return Done{};
  std::string why;
  for (const auto& link : impl_->links) {
    if (!waits_for(*link)) continue;
    why += (why.empty() ? "" : "; ") + link->address.url + " holds " + std::to_string(link->acked.get()) +
           " of " + std::to_string(size.get()) + ": " +
           (link->why.empty() ? "it does not answer in time" : link->why);
    link->lags = true;
    link->in_step = false;
  }
  if (!impl_->options.best_effort) return away(std::move(why));
  spdlog::warn("going on without a standby, as --standby-best-effort says: {}", why);
  return Done{};
}

Status StandbyLinks::wait_attachment(const Digest256& sha256) {
  std::unique_lock lock{impl_->mutex};
  impl_->attachments.push_back(sha256);
  if (impl_->attachments.size() > kMaxQueuedAttachments) impl_->attachments.pop_front();
  const std::uint64_t number = ++impl_->attachment_count;
  impl_->wake_links.notify_all();
  const auto all_hold = [&] {
    return std::all_of(impl_->links.begin(), impl_->links.end(), [&](const auto& link) {
      return link->attachments_done >= number || (impl_->options.best_effort && link->lags);
    });
  };
  impl_->held.wait_for(lock, impl_->options.wait, [&] { return impl_->stop || all_hold(); });
  if (all_hold()) return Done{};
  for (const auto& link : impl_->links)
    if (link->attachments_done < number) link->lags = true;
  if (impl_->options.best_effort) return Done{};
  return away("an attachment did not reach every standby in time");
}

std::vector<StandbyLinks::Link> StandbyLinks::links() const {
  const std::lock_guard lock{impl_->mutex};
  std::vector<Link> out;
  for (const auto& link : impl_->links)
    out.push_back(
        {link->address.url, link->acked, link->in_step && link->acked == impl_->head.size, link->why});
  return out;
}

}  // namespace sallyport::ledger_service
