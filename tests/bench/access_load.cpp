// A load on a whole region as it runs: the broker over TLS, the keyguard with a SoftHSM, three witnesses of
// which two must cosign, all processes of their own on loopback; machines are in software. Requests come at
// random (Poisson) moments that are fixed before, whatever the region does, and each is measured from its
// moment on: a region that is late is late for all who wait behind it. At a rate that no region keeps up
// with, each client sends as soon as it was answered: what is done a second is what the region can do.
//
// A client's proof is its own follower's: it recomputes the root from all leaves, checks the quorum's
// cosignatures over it, and keeps both on disk; the request is proven when its leaf is there. With --whole,
// each request is approved by three people, granted and certified, and measured until the dossier and the
// certificate are verified.

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/program_options.hpp>
#include <condition_variable>
#include <fstream>
#include <iostream>
#include <random>
#include <thread>

#include "attestation/base/hex.h"
#include "attestation/follow/follower.h"
#include "attestation/ledger/proof.h"
#include "broker/credentials/ssh_certificate.h"
#include "tests/support/broker_access.h"

namespace sallyport::bench {
namespace {

using test::ApiPeer;
using test::BrokerProcess;
using test::OpenCase;
using test::value_of;
using Steady = std::chrono::steady_clock;
using Moment = Steady::time_point;

struct Options {
  double seconds = 10, rate = 100;
  unsigned clients = 64;
  bool whole = false;
};

// Latencies are of one kind of event, in milliseconds, each with when it was to begin.
class Latencies {
 public:
  void add(Moment since) {
    const double ms = std::chrono::duration<double, std::milli>(Steady::now() - since).count();
    const std::lock_guard lock{mutex_};
    all_.emplace_back(since, ms);
  }
  std::size_t count() {
    const std::lock_guard lock{mutex_};
    return all_.size();
  }
  void tell(const char* what) {
    const std::lock_guard lock{mutex_};
    std::vector<double> ms;
    for (const auto& [since, one] : all_) ms.push_back(one);
    std::sort(ms.begin(), ms.end());
    std::printf("%-34s %8zu  p50 %7.1f  p90 %7.1f  p99 %7.1f  p99.9 %7.1f  max %7.1f ms\n", what, ms.size(),
                at(ms, 0.5), at(ms, 0.9), at(ms, 0.99), at(ms, 0.999), at(ms, 1));
  }
  // tell_tens tells the 99th percentile ten seconds by ten seconds: what a neighbour's burst of work does to
  // some of them, it does not do to their middle.
  void tell_tens() {
    const std::lock_guard lock{mutex_};
    std::map<std::int64_t, std::vector<double>> tens;
    for (const auto& [since, one] : all_)
      tens[since.time_since_epoch() / std::chrono::seconds{10}].push_back(one);
    std::vector<double> p99;
    for (auto& [ten, ms] : tens) {
      std::sort(ms.begin(), ms.end());
      p99.push_back(at(ms, 0.99));
    }
    std::sort(p99.begin(), p99.end());
    std::printf("%-34s %8zu  least %5.1f  quarter %3.1f  middle %3.1f  most %5.1f ms\n",
                "  p99, of ten seconds each", p99.size(), at(p99, 0), at(p99, 0.25), at(p99, 0.5),
                at(p99, 1));
  }

 private:
  static double at(const std::vector<double>& sorted, double share) {
    if (sorted.empty()) return 0;
    return sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1))];
  }
  std::mutex mutex_;
  std::vector<std::pair<Moment, double>> all_;
};

// cpu_seconds is what a process has used, from /proc/PID/stat.
double cpu_seconds(const std::string& process) {
  std::ifstream file{"/proc/" + process + "/stat"};
  std::string text{std::istreambuf_iterator<char>{file}, {}};
  std::istringstream fields{text.substr(text.rfind(')') + 2)};
  std::vector<std::string> words{std::istream_iterator<std::string>{fields}, {}};
  return (std::stod(words.at(11)) + std::stod(words.at(12))) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

// ClientsFollower follows the log on a connection of its own, as a client does, and tells who waits.
class ClientsFollower {
 public:
  ClientsFollower(const BrokerProcess& world, Latencies& proven)
      : proven_(proven), peer_(value_of(world.peer("erin"))) {
    const follow::TrustAnchor anchor{world.company.origin(), world.company.genesis};
    const auto file = directory_ / "follow.db";
    value_of(follow::Follower::create(file, anchor));
    follower_ = value_of(follow::Follower::open(file, anchor));
    step(0);
    thread_ = std::thread{[this] {
      while (!stop_) step(1000);
    }};
  }
  ~ClientsFollower() {
    stop_ = true;
    thread_.join();
  }

  std::string note() const { return follower_->note(); }
  std::shared_ptr<const record::ControlState> control() const { return follower_->control(); }

  // expect has the request of a case measured from that moment on.
  void expect(const CaseId& case_id, Moment since) {
    const std::lock_guard lock{mutex_};
    expected_.emplace(case_id, since);
  }
  // wait_followed waits until a leaf is there.
  void wait_followed(LeafIndex index) {
    std::unique_lock lock{mutex_};
    grown_.wait_for(lock, std::chrono::seconds{20},
                    [&] { return follower_->control()->size().get() > index.get(); });
  }
  // wait_all waits until nothing is expected any more; it gives what still is after a while.
  std::size_t wait_all() {
    std::unique_lock lock{mutex_};
    grown_.wait_for(lock, std::chrono::seconds{20}, [this] { return expected_.empty(); });
    return expected_.size();
  }

 private:
  void step(unsigned wait_ms) {
    const std::string from = std::to_string(follower_->control()->size().get());
    const Bytes answer = value_of(peer_.get("/v1/follow?from=" + from + "&wait=" + std::to_string(wait_ms)));
    const record::Batch batch = value_of(record::parse_batch(answer));
    if (batch.note == follower_->note()) return;
    value_of(follower_->accept(batch));
    const std::lock_guard lock{mutex_};
    for (const ledger::Leaf& leaf : batch.leaves) {
      const auto found = leaf.kind == static_cast<std::uint8_t>(record::Kind::kRequest)
                             ? expected_.find(leaf.case_id)
                             : expected_.end();
      if (found == expected_.end()) continue;
      proven_.add(found->second);
      expected_.erase(found);
    }
    grown_.notify_all();
  }

  Latencies& proven_;
  const test::TemporaryDirectory directory_;
  ApiPeer peer_;
  std::unique_ptr<follow::Follower> follower_;
  std::mutex mutex_;  // guards expected_
  std::condition_variable grown_;
  std::map<CaseId, Moment> expected_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

class Load {
 public:
  Load(BrokerProcess& world, const Options& options) : world_(world), options_(options) {
    test::Access people{world_};  // with approvers' machines
    for (unsigned i = 0; i < options_.clients; ++i) people.enrol(machine(i), "erin");
    std::mt19937 random{4711};
    std::exponential_distribution<double> gap{options_.rate};
    for (double at = gap(random); at < options_.seconds; at += gap(random)) moments_.push_back(at);
  }

  bool run() {
    ClientsFollower follower{world_, proven_};
    std::map<std::string, std::pair<std::string, double>> processes;
    const auto count = [&](const std::string& name, const std::string& pid) {
      processes[name] = {pid, cpu_seconds(pid)};
    };
    count("broker", std::to_string(world_.broker().pid()));
    count("keyguard", std::to_string(world_.keyguard().pid()));
    count("clients and their follower", "self");
    for (std::size_t i = 0; i < world_.witnesses.size(); ++i)
      count("witness " + std::to_string(i + 1), std::to_string(world_.witnesses[i]->process().pid()));
    std::vector<std::thread> clients;
    std::atomic<unsigned> ready = 0;
    std::atomic<bool> begun = false;
    for (unsigned i = 0; i < options_.clients; ++i)
      clients.emplace_back([this, &follower, &ready, &begun, i] {
        ApiPeer peer = value_of(world_.peer("erin"));
        value_of(peer.attest(world_.company.machines.at(machine(i))));
        if (++ready == options_.clients) {
          begin_ = Steady::now() + std::chrono::milliseconds{200};
          begun = true;
          begun.notify_all();
        }
        begun.wait(false);
        work(peer, follower, machine(i));
      });
    for (std::thread& client : clients) client.join();
    const std::size_t lost = follower.wait_all();
    const double took = std::chrono::duration<double>(Steady::now() - begin_).count();

    std::printf("%.0f s, %.0f requests/s from %u clients%s; done after %.1f s: %.0f/s\n", options_.seconds,
                options_.rate, options_.clients, options_.whole ? ", each to its certificate" : "", took,
                static_cast<double>(moments_.size()) / took);
    behind_.tell("sent after its moment");
    recorded_.tell("request to recorded (signed)");
    proven_.tell("request to proof (cosigned)");
    proven_.tell_tens();
    if (options_.whole) {
      certified_.tell("request to verified certificate");
      certified_.tell_tens();
    }
    double all = 0;
    for (const auto& [name, process] : processes) {
      const double share = (cpu_seconds(process.first) - process.second) / took;
      all += share;
      std::printf("%-34s %7.0f %% of a core\n", name.c_str(), 100 * share);
    }
    std::printf("%-34s %7.0f %%\n", "all", 100 * all);
    std::printf("%-34s %8zu failed, %zu not proven\n", "", failed_.load(), lost);
    const std::size_t expected = moments_.size();
    return failed_ == 0 && lost == 0 && proven_.count() == expected &&
           (!options_.whole || certified_.count() == expected);
  }

 private:
  static std::string machine(unsigned i) { return "laptop-" + std::to_string(i); }

  void work(ApiPeer& peer, ClientsFollower& follower, const std::string& name) {
    for (;;) {
      const std::size_t next = next_++;
      if (next >= moments_.size()) return;
      const Moment moment = begin_ + std::chrono::duration_cast<Steady::duration>(
                                         std::chrono::duration<double>{moments_[next]});
      // A person's machine has the request ready before it is sent.
      std::this_thread::sleep_until(moment - std::chrono::milliseconds{50});
      const OpenCase open = make_request(follower, name);
      std::this_thread::sleep_until(moment);
      behind_.add(moment);
      follower.expect(open.id, moment);
      if (const Status done = one(peer, follower, open, moment); !done.has_value()) {
        if (++failed_ <= 10) std::cerr << describe(done.error()) << "\n";
      }
    }
  }

  Status one(ApiPeer& peer, ClientsFollower& follower, const OpenCase& open, Moment moment) {
    SP_TRY(const api::Submitted submitted, peer.submit(open.submission));
    if (submitted.state != "open") return Error{Code::kInternal, "a request that was refused"};
    recorded_.add(moment);
    if (!options_.whole) return Done{};
    SP_TRY(const Bytes bytes, peer.get("/v1/cases/" + to_hex(open.id)));
    SP_TRY(const api::CaseView view, api::parse_case_view(bytes));
    SP_TRY(const Digest256 to_approve, parse_digest(view.to_approve));
    for (const char* person : {"alice", "bob", "dana"})
      SP_CHECK(peer.submit(make_approval(follower, open, to_approve, person)));
    SP_TRY(const api::Activated activated, peer.activate(open.id, make_activation(follower, open)));
    // The client's own judgement, as sallyport makes it before it uses a certificate.
    SP_TRY(const record::Dossier dossier, record::parse_dossier(activated.dossier));
    SP_TRY(const auto proof, ledger::parse_proof(dossier.proof));
    follower.wait_followed(proof.index);
    const auto control = follower.control();
    SP_TRY(const auto grant, record::verify_dossier(dossier, *control, BrokerProcess::wall_clock()));
    SP_TRY(const auto certificate, credentials::parse_ssh_certificate(activated.certificate));
    SP_CHECK(credentials::verify_ssh_certificate(certificate, grant,
                                                 control->policy()->policy.authority.keys.ssh_ca));
    certified_.add(moment);
    return Done{};
  }

  OpenCase make_request(const ClientsFollower& follower, const std::string& name) {
    const std::lock_guard lock{making_};
    world_.company.now = BrokerProcess::wall_clock();
    return world_.company.make_request({.machine = name, .note = follower.note()});
  }
  record::Submission make_approval(const ClientsFollower& follower, const OpenCase& open,
                                   const Digest256& to_approve, const std::string& person) {
    const std::lock_guard lock{making_};
    world_.company.now = BrokerProcess::wall_clock();
    world_.company.state.cases[open.id].to_approve = to_approve;  // all that the scenario needs of a case
    auto approval =
        world_.company.make_approval(open.id, person, {.attested = true, .note = follower.note()});
    world_.company.state.cases.erase(open.id);
    return approval;
  }
  std::vector<record::Blob> make_activation(const ClientsFollower& follower, const OpenCase& open) {
    const std::lock_guard lock{making_};
    world_.company.now = BrokerProcess::wall_clock();
    return world_.company.activation(open, {.note = follower.note()});
  }

  BrokerProcess& world_;
  const Options options_;
  std::vector<double> moments_;  // seconds from begin_
  Moment begin_;
  std::atomic<std::size_t> next_ = 0, failed_ = 0;
  std::mutex making_;  // the company is for one thread
  Latencies behind_, recorded_, proven_, certified_;
};

Options parse(int argc, char** argv) {
  namespace po = boost::program_options;
  Options out;
  po::options_description flags{"a load on a whole region"};
  flags.add_options()("help,h", "this text")("seconds", po::value(&out.seconds)->default_value(out.seconds))(
      "rate", po::value(&out.rate)->default_value(out.rate), "requests a second")(
      "clients", po::value(&out.clients)->default_value(out.clients), "connections, each of a machine")(
      "whole", po::bool_switch(&out.whole), "approve, grant and certify each");
  po::variables_map found;
  po::store(po::parse_command_line(argc, argv, flags), found);
  po::notify(found);
  if (found.contains("help")) {
    std::cout << flags;
    std::exit(0);
  }
  return out;
}

}  // namespace
}  // namespace sallyport::bench

int main(int argc, char** argv) {
  const auto options = sallyport::bench::parse(argc, argv);
  spdlog::set_level(spdlog::level::off);
  sallyport::test::BrokerProcess world{
      {SALLYPORT_KEYGUARD_PROGRAM, SALLYPORT_BROKER_PROGRAM, SALLYPORT_WITNESS_PROGRAM}};
  return sallyport::bench::Load{world, options}.run() ? 0 : 1;
}
