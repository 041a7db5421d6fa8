#include "broker/http/api_server.h"

#include <spdlog/spdlog.h>

#include <atomic>
#include <ctime>
#include <functional>
#include <optional>
#include <utility>

#include "attestation/base/hex.h"
#include "attestation/base/reader.h"
#include "attestation/record/canonical_json.h"
#include "broker/http/target.h"

namespace sallyport::http {
namespace {

using net::Connection;
using net::HttpRequest;
using net::HttpResponse;
using sessions::Broker;
using sessions::Peer;
using std::chrono::milliseconds;

constexpr std::string_view kJson = "application/json";
constexpr std::string_view kBinary = "application/octet-stream";

HttpResponse answer(Bytes body, std::string_view type, unsigned status = 200) {
  HttpResponse response;
  response.status = status;
  response.content_type = type;
  response.body = std::move(body);
  return response;
}

HttpResponse refuse(const Error& error, std::string case_hex = {}) {
  spdlog::info("refused: {}", describe(error));
  // Our own words about a person's request are for that person; of what went wrong inside, a peer learns the
  // reason only.
  const bool theirs = error.code == Code::kDenied || error.code == Code::kMalformed ||
                      error.code == Code::kUnverified || error.code == Code::kStale;
  const std::string detail = theirs ? error.what.substr(0, 1024) : std::string{reason_sentence(error.reason)};
  const api::ErrorMessage message{std::move(case_hex), error.reason, detail};
  return answer(api::encode(message), kJson, static_cast<unsigned>(http_status_of(error)));
}

// Waits counts the long polls that hold a worker. Beyond the cap a poll is refused, so that those who wait
// never keep the others from being served.
class Waits {
 public:
  class Ticket {
   public:
    Ticket() = default;
    explicit Ticket(std::atomic<std::size_t>& count) : count_(&count) { ++count; }
    Ticket(Ticket&& other) noexcept : count_(std::exchange(other.count_, nullptr)) {}
    Ticket& operator=(Ticket&&) = delete;
    ~Ticket() {
      if (count_ != nullptr) --*count_;
    }

   private:
    std::atomic<std::size_t>* count_ = nullptr;
  };
  // enter gives a ticket for as long as the poll waits; who does not want to wait needs none.
  Result<Ticket> enter(milliseconds wait) {
    if (wait.count() == 0) return Ticket{};
    Ticket ticket{count_};
    if (count_ > kMaxWaitingCalls)
      return Error{Code::kUnavailable, Reason::kRateLimited, "too many calls wait", Next::kRetryLater, 0};
    return ticket;
  }

 private:
  std::atomic<std::size_t> count_ = 0;
};

Result<HttpResponse> on_case(Broker& broker, Waits& waits, Peer& peer, const HttpRequest& request,
                             const Target& target, std::string_view rest) {
  const auto slash = rest.find('/');
  SP_TRY(const CaseId case_id, parse_case_id(rest.substr(0, slash)));
  const std::string_view action = slash == rest.npos ? std::string_view{} : rest.substr(slash + 1);
  SP_TRY(const std::uint64_t wait_ms, target.number_or("wait", 0));
  const milliseconds wait{static_cast<milliseconds::rep>(std::min<std::uint64_t>(wait_ms, 30'000))};
  const bool post = request.method == "POST";
  SP_TRY(const Waits::Ticket ticket, waits.enter(post ? milliseconds{0} : wait));

  if (action.empty() && !post) {
    SP_TRY(const auto after, target.number("after"));
    SP_TRY(const auto view, broker.view(peer, case_id, after, wait));
    return answer(api::encode(view), kJson);
  }
  if (action == "activate" && post) {
    Reader in{request.body};
    SP_TRY(auto evidence, record::parse_blobs(in));
    SP_CHECK(in.finish());
    SP_TRY(const auto activated, broker.activate(peer, case_id, std::move(evidence)));
    return answer(api::encode(activated), kJson);
  }
  if (action == "lease" && post) {
    SP_TRY(const auto ask, api::parse_lease_ask(request.body));
    SP_TRY(const auto leased, broker.lease(peer, case_id, ask));
    return answer(api::encode(leased), kJson);
  }
  if (action == "challenges" && post) {
    SP_TRY(auto challenge, api::parse_challenge(request.body));
    SP_TRY(const std::uint64_t number, broker.add_challenge(peer, case_id, std::move(challenge)));
    return answer(api::encode_field("challenge", std::to_string(number)), kJson);
  }
  if (action == "challenges") {
    SP_TRY(const auto challenges, broker.open_challenges(peer, case_id, wait));
    return answer(api::encode(challenges), kJson);
  }
  if (constexpr std::string_view kOne = "challenges/"; action.starts_with(kOne)) {
    SP_TRY(const std::uint64_t number, parse_number(action.substr(kOne.size()), "the challenge"));
    if (post) {
      SP_TRY(const std::string text, api::parse_field(request.body, "answer", 64));
      SP_TRY(const Digest256 digest, parse_digest(text));
      SP_CHECK(broker.answer_challenge(peer, case_id, number, to_hex(digest)));
      return answer(api::encode_field("answer", ""), kJson);
    }
    SP_TRY(const std::string text, broker.challenge_answer(peer, case_id, number, wait));
    return answer(api::encode_field("answer", text), kJson);
  }
  return Error{Code::kMalformed, "no such call"};
}

Result<HttpResponse> dispatch(Broker& broker, Waits& waits, Peer& peer, const HttpRequest& request) {
  const Target target{request.target};
  const std::string_view path = target.path();
  const bool get = request.method == "GET";
  const bool post = request.method == "POST";

  if (path == "/v1/hello" && get) return answer(api::encode(broker.hello(peer)), kJson);
  if (path == "/v1/genesis" && get) {
    SP_TRY(const auto batch, broker.genesis());
    return answer(record::encode_batch(batch), kBinary);
  }
  if (path == "/v1/attest" && post) {
    SP_TRY(const auto proof, api::parse_attest(request.body));
    SP_TRY(const DeviceId device, broker.attest(peer, proof));
    return answer(api::encode_field("device", to_hex(device)), kJson);
  }
  if (path == "/v1/signin" && post) {
    SP_TRY(const PersonId person, broker.sign_in(peer, request.body));
    return answer(api::encode_field("person", person.get()), kJson);
  }
  if (path == "/v1/host" && post) {
    SP_TRY(const std::string host, broker.host_hello(peer, request.body));
    return answer(api::encode_field("host", host), kJson);
  }
  if (path == "/v1/follow" && get) {
    SP_TRY(const std::uint64_t from, target.number_or("from", 0));
    SP_TRY(const std::uint64_t wait_ms, target.number_or("wait", 0));
    const milliseconds wait{static_cast<milliseconds::rep>(std::min<std::uint64_t>(wait_ms, 30'000))};
    SP_TRY(const Waits::Ticket ticket, waits.enter(wait));
    SP_TRY(const auto batch, broker.follow(peer, LeafIndex{from}, wait));
    return answer(record::encode_batch(batch), kBinary);
  }
  if (path == "/v1/snapshot" && get) {
    SP_TRY(const auto joining, broker.joining(peer));
    return answer(joining ? *joining : Bytes{}, kBinary);
  }
  if (path == "/v1/entries" && get) {
    SP_TRY(const std::uint64_t from, target.number_or("from", 0));
    SP_TRY(const auto page, broker.entries(peer, LeafIndex{from}));
    return answer(record::encode_entry_page(page), kBinary);
  }
  if (path == "/v1/checkpoints" && get) {
    SP_TRY(const std::uint64_t from, target.number_or("from", 0));
    SP_TRY(const auto notes, broker.checkpoints(peer, TreeSize{from}));
    return answer(api::encode_notes(notes), kJson);
  }
  if (path == "/v1/erasable" && get) {
    SP_TRY(const std::uint64_t before, target.number_or("before", 0));
    SP_TRY(const auto cases, broker.erasable(peer, UnixMillis{before}));
    return answer(api::encode_case_ids(cases), kJson);
  }
  if (path == "/v1/statements" && post) {
    SP_TRY(auto submission, record::parse_submission(request.body));
    SP_TRY(const auto submitted, broker.submit(peer, std::move(submission)));
    return answer(api::encode(submitted), kJson, submitted.code ? 403 : 200);
  }
  if (path == "/v1/lists" && post) {
    SP_TRY(const auto submission, record::parse_submission(request.body));
    SP_TRY(const auto submitted, broker.submit_list(peer, submission));
    return answer(api::encode(submitted), kJson);
  }
  if (path == "/v1/cases" && get) {
    SP_TRY(const auto cases, broker.list(peer));
    return answer(api::encode(cases), kJson);
  }
  if (constexpr std::string_view kCases = "/v1/cases/"; path.starts_with(kCases))
    return on_case(broker, waits, peer, request, target, path.substr(kCases.size()));
  if (constexpr std::string_view kBlobs = "/v1/blobs/"; path.starts_with(kBlobs) && get) {
    SP_TRY(const Digest256 sha256, parse_digest(path.substr(kBlobs.size())));
    SP_TRY(const auto blob, broker.blob(peer, sha256));
    Bytes body{static_cast<std::uint8_t>(blob.type)};
    body.insert(body.end(), blob.bytes.begin(), blob.bytes.end());
    return answer(std::move(body), kBinary);
  }
  return Error{Code::kMalformed, "no such call"};
}

}  // namespace

net::HttpHandler make_api_handler(std::shared_ptr<Broker> broker) {
  return [broker, waits = std::make_shared<Waits>()](const HttpRequest& request,
                                                     Connection& connection) -> HttpResponse {
    Peer* peer = connection.state<Peer>();
    if (peer == nullptr) {
      peer = &connection.emplace_state<Peer>();
      peer->address = connection.peer_address();
      if (connection.exporter()) peer->exporter = Digest256{*connection.exporter()};
    }
    try {
      auto result = dispatch(*broker, *waits, *peer, request);
      return result.has_value() ? std::move(*result) : refuse(result.error());
    } catch (const std::exception& error) {
      return refuse(Error{Code::kInternal, error.what()});
    }
  };
}

namespace {

using Health = ledger_service::Sequencer::Health;
using Witness = ledger_service::WitnessRounds::WitnessHealth;

std::string utc(UnixMillis time) {
  const auto seconds = static_cast<std::time_t>(time.get() / 1000);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

// One line, whatever a witness wrote into its answer.
std::string one_line(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  return text;
}

std::string standing_of(const ledger_service::StandbyLinks::Link& link, std::uint64_t size) {
  return "standby " + link.url + " holds " + std::to_string(link.size.get()) + " of " + std::to_string(size) +
         (link.why.empty() ? "" : ": " + link.why);
}

// ready_text begins with the line that it has always been; then a line for each witness and standby.
std::string ready_text(const Health& health, bool ready) {
  std::string text = ready ? "ready\n" : "not ready: " + one_line(health.why) + "\n";
  for (const Witness& one : health.each_witness) {
    text += "witness " + one_line(one.name) + ": ";
    text += one.answering ? "answers" : "does not answer: " + one_line(one.why);
    text += one.size.get() == 0
                ? std::string{"; nothing cosigned since this broker began"}
                : "; last cosigned size " + std::to_string(one.size.get()) + " at " + utc(one.cosigned);
    text += "\n";
  }
  for (const auto& link : health.standbys) text += one_line(standing_of(link, health.size)) + "\n";
  return text;
}

std::string ready_json(const Health& health, bool ready) {
  using record::json::Value;
  std::vector<Value> standbys;
  for (const auto& link : health.standbys)
    standbys.push_back(Value::object(
        {{"in_step", Value{link.in_step}}, {"size", link.size.get()}, {"url", link.url}, {"why", link.why}}));
  std::vector<Value> witnesses;
  for (const Witness& one : health.each_witness)
    witnesses.push_back(Value::object({{"answering", Value{one.answering}},
                                       {"cosigned", one.cosigned.get()},
                                       {"name", one.name},
                                       {"size", one.size.get()},
                                       {"why", one.why}}));
  const Bytes text =
      record::json::encode_canonical(Value::object({{"cosigned_size", health.cosigned_size},
                                                    {"keyguard", Value{health.signer}},
                                                    {"ready", Value{ready}},
                                                    {"size", health.size},
                                                    {"standbys", std::move(standbys)},
                                                    {"why", ready ? std::string{} : health.why},
                                                    {"witnesses", std::move(witnesses)}}));
  return std::string{as_text(text)} + "\n";
}

// label is a value in Prometheus text.
std::string label(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out.push_back('\\');
    out += c == '\n' ? std::string{"\\n"} : std::string{c};
  }
  return out;
}

// Metrics is a page of Prometheus text.
class Metrics {
 public:
  Metrics& add(std::string_view name, std::string_view help, std::string_view type, std::uint64_t value) {
    begin(name, help, type);
    return sample(name, "", value);
  }
  void begin(std::string_view name, std::string_view help, std::string_view type) {
    text_ += "# HELP " + std::string{name} + " " + std::string{help} + "\n# TYPE " + std::string{name} + " " +
             std::string{type} + "\n";
  }
  // `labels` is empty, or {name="value"} with a value of ours.
  Metrics& sample(std::string_view name, std::string_view labels, std::uint64_t value) {
    text_ += std::string{name} + std::string{labels} + " " + std::to_string(value) + "\n";
    return *this;
  }
  HttpResponse page() const { return HttpResponse::of(200, "text/plain; version=0.0.4", text_); }

 private:
  std::string text_;
};

HttpResponse readiness(bool ready, const std::string& text) {
  return HttpResponse::of(ready ? 200 : 503, "text/plain", (ready ? "ready" : "not ready: ") + text + "\n");
}

HttpResponse metrics_of(const ledger_service::Sequencer::Health& health) {
  Metrics out;
  out.add("sallyport_log_size", "Leaves in the log.", "gauge", health.size)
      .add("sallyport_log_cosigned_size", "Leaves under the newest cosigned checkpoint.", "gauge",
           health.cosigned_size)
      .add("sallyport_witness_rounds_total", "Witness rounds that reached their quorum.", "counter",
           health.rounds)
      .add("sallyport_witnesses_answering", "Witnesses that cosigned in the last round.", "gauge",
           health.witnesses_answering)
      .add("sallyport_keyguard_up", "1 while the keyguard signs.", "gauge", health.signer ? 1 : 0);
  out.begin("sallyport_log_read_only",
            "1 when witnesses, keyguard or a standby know of entries that are not here, or of others.",
            "gauge");
  for (const Reason reason : {Reason::kLogRollback, Reason::kLogFork})
    out.sample("sallyport_log_read_only", "{reason=\"" + std::string{reason_name(reason)} + "\"}",
               health.read_only == reason ? 1 : 0);
  const auto each_witness = [&](std::string_view name, std::string_view help, auto value) {
    out.begin(name, help, "gauge");
    for (const Witness& one : health.each_witness)
      out.sample(name, "{witness=\"" + label(one.name) + "\"}", value(one));
  };
  each_witness("sallyport_witness_answers", "1 while this witness cosigns.",
               [](const Witness& one) { return std::uint64_t{one.answering ? 1U : 0U}; });
  each_witness("sallyport_witness_size", "Leaves that this witness cosigned last.",
               [](const Witness& one) { return one.size.get(); });
  each_witness("sallyport_witness_cosigned_seconds",
               "When this witness cosigned last, Unix time; 0: not since this broker began.",
               [](const Witness& one) { return one.cosigned.get() / 1000; });
  if (health.standbys.empty()) return out.page();
  const auto each = [&](std::string_view name, std::string_view help, auto value) {
    out.begin(name, help, "gauge");
    for (const auto& link : health.standbys) out.sample(name, "{standby=\"" + link.url + "\"}", value(link));
  };
  each("sallyport_standby_size", "Leaves that a standby holds.", [](const auto& l) { return l.size.get(); });
  each("sallyport_standby_in_step", "1 while a standby holds every leaf.",
       [](const auto& l) { return std::uint64_t{l.in_step ? 1U : 0U}; });
  return out.page();
}

}  // namespace

net::HttpHandler make_operator_handler(std::shared_ptr<Broker> broker) {
  return [broker](const HttpRequest& request, Connection&) -> HttpResponse {
    const auto path = request.path();
    if (path == "/healthz") return HttpResponse::of(200, "text/plain", "ok\n");
    const auto health = broker->health();
    if (path == "/readyz") {
      const bool ready = health.signer && health.witnesses && health.standby && !health.read_only;
      const bool json = request.target == "/readyz?format=json";
      return HttpResponse::of(ready ? 200 : 503, json ? std::string{kJson} : "text/plain",
                              json ? ready_json(health, ready) : ready_text(health, ready));
    }
    if (path == "/metrics") return metrics_of(health);
    return HttpResponse::of(404, "text/plain", "no such page\n");
  };
}

net::HttpHandler make_standby_operator_handler(std::shared_ptr<ledger_service::Standby> standby) {
  return [standby](const HttpRequest& request, Connection&) -> HttpResponse {
    const auto path = request.path();
    if (path == "/healthz") return HttpResponse::of(200, "text/plain", "ok\n");
    const auto health = standby->health();
    const bool heard = health.since_heard && *health.since_heard < std::chrono::seconds{30};
    if (path == "/readyz") {
      const std::string holds = "; this standby holds " + std::to_string(health.standing.head.size.get()) +
                                " leaves, cosigned up to " +
                                std::to_string(health.standing.cosigned_size.get());
      if (!health.refused.empty())
        return readiness(false, "it refuses what was sent: " + health.refused + holds);
      return readiness(heard, (heard ? "" : "no primary was heard within 30 s") + holds);
    }
    if (path == "/metrics")
      return Metrics{}
          .add("sallyport_log_size", "Leaves that this standby holds.", "gauge",
               health.standing.head.size.get())
          .add("sallyport_log_cosigned_size", "Leaves under the newest cosigned checkpoint.", "gauge",
               health.standing.cosigned_size.get())
          .add("sallyport_standby_heard", "1 while a primary was heard within 30 s.", "gauge", heard ? 1 : 0)
          .add("sallyport_standby_refusing", "1 while what a primary sends is refused.", "gauge",
               health.refused.empty() ? 0 : 1)
          .page();
    return HttpResponse::of(404, "text/plain", "no such page\n");
  };
}

}  // namespace sallyport::http
