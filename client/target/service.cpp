#include "client/target/service.h"

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <map>
#include <mutex>

#include "attestation/base/hex.h"
#include "attestation/net/frames.h"
#include "broker/credentials/ssh_certificate.h"
#include "client/target/keeper.h"
#include "client/target/processes.h"
#include "client/target/protocol.h"

namespace sallyport::gate {
namespace {

using record::VerifiedGrant;
using record::WhyClosed;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kMaxConnections = 256;
constexpr std::size_t kMaxConnectionsOfUid = 64;  // so that one account does not shut out the others
constexpr milliseconds kFirstFrame{10'000};
constexpr milliseconds kFarewell{1'000};         // for a client to print a last line
constexpr int kFlushMs = 250;                    // for sshd to send a last line
constexpr int kLookMs = 1'000;                   // how often a session looks whether it may go on
constexpr milliseconds kKeeperPatience{15'000};  // for a keeper that was told to end

std::string session_name(const CaseId& case_id) {
  return "c-" + to_hex(case_id).substr(0, 8);
}

// quoted makes a stranger's text fit for a log line.
std::string printable_of(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 128)) out += (c >= ' ' && c <= '~' && c != '"' && c != '\\') ? c : '?';
  return "\"" + out + "\"";
}

bool is_address(const std::string& text) {
  std::array<unsigned char, sizeof(in6_addr)> ignored;
  const std::string bare = text.substr(0, text.find('%'));
  return ::inet_pton(AF_INET, text.c_str(), ignored.data()) == 1 ||
         ::inet_pton(AF_INET6, bare.c_str(), ignored.data()) == 1;
}

// receive_files takes the three files that a client sends with one byte.
Result<std::array<Descriptor, 3>> receive_files(int socket, milliseconds patience) {
  pollfd one{socket, POLLIN, 0};
  if (::poll(&one, 1, static_cast<int>(patience.count())) != 1)
    return Error{Code::kUnavailable, Reason::kPeerTimeout, "the client sent no files"};
  std::uint8_t byte = 0;
  iovec part{&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(16 * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  std::vector<Descriptor> files;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); got >= 0 && header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      files.emplace_back(fd);
    }
  }
  if (got != 1 || files.size() != 3 || (message.msg_flags & MSG_CTRUNC) != 0)
    return Error{Code::kMalformed, "a client sends three files"};
  return std::array<Descriptor, 3>{std::move(files[0]), std::move(files[1]), std::move(files[2])};
}

}  // namespace

std::string why_text(const CaseId& case_id, WhyClosed why, UnixMillis at, UnixMillis not_before,
                     UnixMillis not_after) {
  const std::time_t seconds = static_cast<std::time_t>(at.get() / 1000);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  std::array<char, 16> time;
  std::strftime(time.data(), time.size(), "%H:%M:%SZ", &parts);
  std::string text = "session " + session_name(case_id) + " ended " + time.data() + ": ";
  switch (why) {
    case WhyClosed::kDeadline: {
      const std::uint64_t granted = (not_after.get() - not_before.get()) / 1000;
      const bool minutes = granted % 60 == 0;
      const std::uint64_t count = minutes ? granted / 60 : granted;
      text += "its " + std::to_string(count) + (minutes ? " minute" : " second") +
              (count == 1 ? " is over" : "s are over");
      break;
    }
    case WhyClosed::kRevoked:
      text += "what it rests on was denied or revoked";
      break;
    case WhyClosed::kBehind:
      text += "this host has not followed the log for " + std::to_string(kMaxBehind.count()) + " seconds";
      break;
    case WhyClosed::kLost:
      text += "the gate of this host is stopping";
      break;
    case WhyClosed::kExit:
      text += "it ended by itself";
      break;
  }
  return text;
}

struct Service::Impl {
  Options options;
  std::shared_ptr<LogView> view;
  std::shared_ptr<Reports> reports;
  std::optional<CgroupBase> cgroups;
  std::optional<Connections> connections;
  Descriptor stop_event;
  std::atomic<std::size_t> sessions = 0;
  std::atomic<std::uint64_t> started = 0;

  std::mutex mutex;
  std::map<uid_t, std::size_t> clients;  // guarded by mutex

  std::optional<net::FrameServer> server;

  void serve(net::FrameChannel& channel, const net::PeerCredentials& peer);
  void answer_principal(net::FrameChannel& channel, const AskPrincipal& ask);
  void run_session(net::FrameChannel& channel, const net::PeerCredentials& peer, const AskSession& ask);
  std::optional<WhyClosed> why_to_end(const VerifiedGrant& grant, ByteView certificate,
                                      std::uint64_t& version);
  KeeperReport watch(net::FrameChannel& channel, net::FrameChannel& keeper, int connection,
                     const VerifiedGrant& grant, ByteView certificate);
  std::vector<std::string> accounts_of(uid_t uid) const;
  Status verify_installed(const std::string& account) const;
  Status verify_client(const net::PeerCredentials& peer) const;
  void part(Connections::Channel& held, bool stays) const;
  bool stopping() const {
    pollfd one{stop_event.get(), POLLIN, 0};
    return ::poll(&one, 1, 0) > 0;
  }
};

void Service::Impl::serve(net::FrameChannel& channel, const net::PeerCredentials& peer) {
  struct Count {
    Impl& impl;
    uid_t uid;
    bool allowed = false;
    Count(Impl& i, uid_t u) : impl(i), uid(u) {
      const std::lock_guard lock{impl.mutex};
      allowed = ++impl.clients[uid] <= kMaxConnectionsOfUid;
    }
    ~Count() {
      const std::lock_guard lock{impl.mutex};
      if (--impl.clients[uid] == 0) impl.clients.erase(uid);
    }
  } const count{*this, peer.uid};
  if (!count.allowed) return;
  const auto frame = channel.receive(kFirstFrame);
  if (!frame || !frame->has_value()) return;
  const auto ask = parse_ask(**frame);
  if (!ask) {
    spdlog::warn("uid {} asked what a gate does not answer", peer.uid);
    return;
  }
  if (const auto* principal = std::get_if<AskPrincipal>(&*ask))
    answer_principal(channel, *principal);
  else
    run_session(channel, peer, std::get<AskSession>(*ask));
}

// accounts_of gives the configured accounts that have this uid.
std::vector<std::string> Service::Impl::accounts_of(uid_t uid) const {
  std::vector<std::string> names;
  for (const auto& [name, shell] : options.config.accounts)
    if (const auto account = options.find_account(name); account && account->uid == uid)
      names.push_back(name);
  return names;
}

// verify_installed checks what an account behind this gate rests on: the user database and the gate's
// program.
Status Service::Impl::verify_installed(const std::string& account) const {
  const auto found = options.find_account(account);
  if (!found) return Error{Code::kDenied, Reason::kGateAccount, "the host has no such account"};
  SP_TRY(const gid_t group, verify_program(options.self));
  return verify_account(*found, options.self, group);
}

// verify_client checks that a session is asked for by the gate's own program, as the kernel started it: with
// nothing of the account's loaded into it, and traced by nobody. Its group says so.
Status Service::Impl::verify_client(const net::PeerCredentials& peer) const {
  SP_TRY(const gid_t group, verify_program(options.self));
  if (peer.gid != group)
    return Error{Code::kUnverified, Reason::kGateProgram,
                 "the client does not have the group of " + options.self +
                     ": it is another program, or that file's setgid is ignored (a mount with nosuid?)"};
  return Done{};
}

void Service::Impl::answer_principal(net::FrameChannel& channel, const AskPrincipal& ask) {
  const auto refuse = [&](const Error& error) {
    spdlog::warn("no login as {}: {}", printable_of(ask.user), describe(error));
    (void)channel.send(encode(Answer{Say::kRefused, 0, {}})).has_value();  // sshd learns no more
  };
  if (!options.config.accounts.contains(ask.user))
    return refuse({Code::kDenied, Reason::kGateAccount, "the account is not behind this gate"});
  // sshd gives the certificate's command to the login shell, whichever it is.
  if (const Status installed = verify_installed(ask.user); !installed) return refuse(installed.error());
  const std::array<std::string, 1> accounts{ask.user};
  const auto grant = verify_login_soon(*view, options.config.host, accounts, ask.certificate, options.clock,
                                       options.login_patience);
  if (!grant) return refuse(grant.error());
  spdlog::info("login as {} by {}, case {}", ask.user, grant->person.get(), to_hex(grant->case_id));
  (void)channel.send(encode(Answer{Say::kPrincipal, 0, credentials::principal_of(grant->case_id)}))
      .has_value();
}

// why_to_end judges an open session anew: the very judgement that let it in, on the log as it is now, except
// that the log may be a little further behind.
std::optional<WhyClosed> Service::Impl::why_to_end(const VerifiedGrant& grant, ByteView certificate,
                                                   std::uint64_t& version) {
  const LogView::Seen seen = view->seen();
  const UnixMillis now = options.clock();
  if (now >= grant.not_after) return WhyClosed::kDeadline;
  if (!verify_followed(seen.followed, now, kMaxBehind)) return WhyClosed::kBehind;
  if (seen.version == version) return {};
  version = seen.version;
  const auto claimed = credentials::parse_ssh_certificate(certificate);
  const auto dossier = record::parse_dossier(claimed->travel_dossier);
  const auto again = record::verify_dossier(*dossier, *seen.followed.control, now);
  if (again) return {};
  spdlog::warn("session {} may not go on: {}", session_name(grant.case_id), describe(again.error()));
  return again.error().reason == Reason::kGrantExpired ? WhyClosed::kDeadline : WhyClosed::kRevoked;
}

// watch stays with a session until its keeper says that every process of it is gone.
KeeperReport Service::Impl::watch(net::FrameChannel& channel, net::FrameChannel& keeper, int connection,
                                  const VerifiedGrant& grant, ByteView certificate) {
  std::optional<WhyClosed> told;
  steady_clock::time_point told_at;
  std::uint64_t version = 0;
  bool client_here = true;
  const auto end = [&](WhyClosed why) {
    if (told) return;
    told = why;
    told_at = steady_clock::now();
    (void)keeper.send({}).has_value();  // an empty frame is no window: the session ends
  };
  for (;;) {
    std::array<pollfd, 4> polled{pollfd{keeper.stream().poll_fd(), POLLIN, 0},
                                 pollfd{client_here ? channel.stream().poll_fd() : -1, POLLIN, 0},
                                 pollfd{told ? -1 : stop_event.get(), POLLIN, 0},
                                 pollfd{told ? -1 : connection, POLLIN, 0}};
    ::poll(polled.data(), polled.size(), kLookMs);
    if (polled[0].revents != 0) {
      const auto frame = keeper.receive(milliseconds{5'000});
      const auto report = frame && frame->has_value() ? parse_keeper_report(**frame)
                                                      : Result<KeeperReport>{Error{Code::kInternal, "gone"}};
      if (!report || !report->ended) {
        spdlog::error("the keeper of session {} is gone", session_name(grant.case_id));
        return {true, told.value_or(WhyClosed::kLost), 255, 0};
      }
      KeeperReport out = *report;
      if (out.why == WhyClosed::kLost && told) out.why = *told;
      return out;
    }
    if (polled[1].revents != 0) {
      const auto frame = channel.receive(milliseconds{5'000});
      const auto window = frame && frame->has_value() ? parse_window(**frame)
                                                      : Result<Window>{Error{Code::kUnavailable, "gone"}};
      if (window) {
        (void)keeper.send(encode(*window)).has_value();
      } else {
        client_here = false;
        end(WhyClosed::kLost);
      }
    }
    // Without a terminal sshd leaves its commands running when the connection is lost. We do not.
    if (polled[2].revents != 0 || polled[3].revents != 0) end(WhyClosed::kLost);
    if (!told)
      if (const auto why = why_to_end(grant, certificate, version)) end(*why);
    if (told && steady_clock::now() > told_at + kKeeperPatience) {
      spdlog::error("the keeper of session {} does not end", session_name(grant.case_id));
      return {true, *told, 255, 0};
    }
  }
}

// part lets the client print the last word and go, and then leaves the connection; it ends unless it `stays`.
void Service::Impl::part(Connections::Channel& held, bool stays) const {
  held.wait_for_client(kFarewell);
  pollfd stop{stop_event.get(), POLLIN, 0};
  if (!stays) ::poll(&stop, 1, kFlushMs);
  held.leave(stays);
}

void Service::Impl::run_session(net::FrameChannel& channel, const net::PeerCredentials& peer,
                                const AskSession& ask) {
  const auto refuse = [&](const Error& error, const std::string& told = {}) {
    spdlog::warn("no session for uid {}: {}", peer.uid, describe(error));
    const std::string text = told.empty() ? "refused [" + std::string{reason_name(error.reason)} + "] " +
                                                std::string{reason_sentence(error.reason)}
                                          : told;
    (void)channel.send(encode(Answer{Say::kRefused, 1, text})).has_value();
  };
  const std::vector<std::string> accounts = accounts_of(peer.uid);
  if (accounts.empty())
    return refuse({Code::kDenied, Reason::kGateAccount, "the account is not behind this gate"});
  if (const Status ours = verify_client(peer); !ours) return refuse(ours.error());
  if (!cgroups && !options.config.sessions_without_cgroups)
    return refuse({Code::kUnavailable, Reason::kGateCgroup,
                   "the service can make no cgroups, and gate.toml does not say sessions_without_cgroups"});
  auto connection = SshdConnection::find(peer.pid, peer.uid, options.config.sshd);
  if (!connection) return refuse(connection.error());
  if (!is_address(ask.address))
    return refuse({Code::kMalformed, "an address that is none: " + printable_of(ask.address)});
  auto grant = verify_login_soon(*view, options.config.host, accounts, ask.certificate, options.clock,
                                 options.login_patience);
  if (!grant) return refuse(grant.error());
  if (const Status installed = verify_installed(grant->account); !installed) return refuse(installed.error());
  // Before it has anything of this session's: whatever becomes of the client or of sshd ends with the grant.
  auto held = connections->enter(std::move(*connection), peer.pid, grant->not_after);
  if (!held) return refuse(held.error());
  const auto refuse_held = [&](const Error& error, const std::string& told = {}) {
    refuse(error, told);
    part(*held, true);
  };

  if (!channel.send(encode(Answer{Say::kSendFiles, 0, {}}))) return;
  auto files = receive_files(channel.stream().poll_fd(), kFirstFrame);
  if (!files) return refuse_held(files.error());

  const auto opened = reports->opened(grant->case_id, grant->account, ask.address);
  if (!opened)
    return refuse_held(opened.error(),
                       "refused [" + std::string{reason_name(opened.error().reason)} +
                           "] the log did not record this session; without a record there is none");
  const std::string name = session_name(grant->case_id) + "/" + std::to_string(opened->channel);

  KeeperOrder order;
  order.account = grant->account;
  order.shell = options.config.accounts.at(grant->account);
  order.command = ask.command;
  order.login = !ask.command.has_value();
  if (!grant->command.empty()) {  // the rule's program, whatever was asked for, and no shell
    order.shell = grant->command;
    order.command.reset();
    order.login = false;
  }
  order.term = ask.tty ? ask.term : "";
  order.case_hex = to_hex(grant->case_id);
  order.tty = ask.tty;
  order.window = ask.window;
  const auto made = cgroups ? make_cgroup(cgroups->directory(), "session-" + std::to_string(++started))
                            : std::optional<std::string>{};
  order.cgroup = made.value_or("");
  const UnixMillis now = options.clock();
  order.remaining_ms = grant->not_after.get() > now.get() ? grant->not_after.get() - now.get() : 0;

  KeeperReport report{true, WhyClosed::kLost, 255, 0};
  bool ran = false;
  if (cgroups && !made) {
    spdlog::error("no cgroup can be made for session {}", name);
  } else if (auto keeper = start_keeper(options.self, order, (*files)[0], (*files)[1], (*files)[2])) {
    for (Descriptor& file : *files) file.reset();
    net::FrameLimits limits;
    limits.max_frame_bytes = kMaxGateFrameBytes;
    net::FrameChannel control{net::make_stream(keeper->control.release()), limits};
    const auto first = control.receive(milliseconds{10'000});
    if (first && first->has_value() && parse_keeper_report(**first)) {
      ran = true;
      ++sessions;
      spdlog::info("session {} of {} for {} as {}, until {} ms, opened in leaf {}", name, grant->person.get(),
                   grant->beneficiary.get(), grant->account, grant->not_after.get(), opened->leaf);
      (void)channel.send(encode(Answer{Say::kStarted, 0, {}})).has_value();
      report = watch(channel, control, held->poll_fd(), *grant, ask.certificate);
      --sessions;
    }
    control.stream().shutdown();  // a keeper that still lives ends by this
    const auto deadline = steady_clock::now() + kKeeperPatience;
    while (::waitpid(keeper->pid, nullptr, WNOHANG) == 0) {
      if (steady_clock::now() > deadline) ::kill(keeper->pid, SIGKILL);
      ::poll(nullptr, 0, 5);
    }
  }
  if (!order.cgroup.empty()) (void)end_cgroup(order.cgroup, milliseconds{5'000});
  if (const Status stored = reports->closed(grant->case_id, opened->channel, report.why, report.bytes);
      !stored)
    spdlog::error("the end of session {} could not be stored: {}", name, describe(stored.error()));
  constexpr std::array<const char*, 5> kWhy{"exit", "deadline", "revoked", "behind", "lost"};
  spdlog::info("session {} ended: {}, {} bytes of output", name, kWhy[static_cast<std::size_t>(report.why)],
               report.bytes);
  if (!ran) return refuse_held({Code::kInternal, "the session's keeper did not start"});
  const bool by_itself = report.why == WhyClosed::kExit;
  const std::string text =
      by_itself ? ""
                : why_text(grant->case_id, report.why, options.clock(), grant->not_before, grant->not_after);
  (void)channel.send(encode(Answer{Say::kEnded, report.status, text})).has_value();
  part(*held, by_itself);
}

Service::Service(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Service>> Service::start(Options options, std::shared_ptr<LogView> view,
                                                std::shared_ptr<Reports> reports) {
  auto impl = std::make_unique<Impl>();
  impl->options = std::move(options);
  impl->view = std::move(view);
  impl->reports = std::move(reports);
  if (const auto group = verify_program(impl->options.self); !group)
    spdlog::error("every login and session will be refused: {}", describe(group.error()));
  impl->cgroups = impl->options.make_cgroups();
  if (impl->cgroups)
    spdlog::info("sessions are held together by cgroups below {}", impl->cgroups->directory());
  else if (impl->options.config.sessions_without_cgroups)
    spdlog::warn(
        "NO CGROUPS: sessions are held together by their keepers alone, because gate.toml says "
        "sessions_without_cgroups; a process that gets out of its session outlives the grant");
  else
    spdlog::error(
        "every session will be refused: no cgroup (v2) can be made here. Start the service as a unit with "
        "Delegate=yes, or say sessions_without_cgroups = true in gate.toml");
  impl->connections.emplace(
      impl->cgroups ? std::optional{impl->cgroups->directory()} : std::optional<std::string>{},
      impl->options.clock, impl->options.idle_connection);
  impl->stop_event = Descriptor{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  net::FrameServerOptions server;
  server.socket = impl->options.config.socket;
  server.socket_mode = 0666;  // sshd's helper and every account ask; each is judged by what it shows
  server.max_connections = kMaxConnections;
  server.limits.max_frame_bytes = kMaxGateFrameBytes;
  SP_TRY(impl->server, net::FrameServer::start(server, [raw = impl.get()](net::FrameChannel& channel,
                                                                          const net::PeerCredentials& peer) {
           raw->serve(channel, peer);
         }));
  return std::unique_ptr<Service>{new Service{std::move(impl)}};
}

Service::~Service() {
  const std::uint64_t one = 1;
  (void)!::write(impl_->stop_event.get(), &one, sizeof(one));
  impl_->view->wake();
  impl_->server.reset();
}

std::size_t Service::sessions() const {
  return impl_->sessions;
}

}  // namespace sallyport::gate
