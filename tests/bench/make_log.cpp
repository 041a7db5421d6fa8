// A long log, to be piped into append_log: a company in software that works for weeks. Accesses in all their
// ends, ten at a time, machines that come and go, policies; every signature in it is real. The keyguard that
// will sign its checkpoints runs beside it, over a SoftHSM.
//
//   make_log LEAVES | append_log DIRECTORY

#include <fcntl.h>
#include <unistd.h>

#include <iostream>
#include <random>
#include <thread>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/random.h"
#include "attestation/record/ahead.h"
#include "tests/bench/long_log.h"
#include "tests/bench/witnesses.h"
#include "tests/support/guard_world.h"
#include "tests/support/matchers.h"

namespace sallyport::bench {
namespace {

using record::Kind;
using test::OpenCase;
using test::value_of;
using namespace std::chrono_literals;

constexpr std::size_t kPage = 64;        // entries that come within a second, and are one commit
constexpr auto kBetweenPages = 4min;     // so 10^6 leaves are six weeks
constexpr std::uint64_t kNoteEvery = 8;  // leaves to a cosigned checkpoint
constexpr std::uint64_t kMachineEvery = 2'000, kRevocationEvery = 10'000, kPolicyEvery = 20'000;
constexpr unsigned kEngineers = 16, kAccesses = 10;
constexpr std::size_t kWitnesses = 4;      // of the sample company
constexpr std::uint64_t kHeardBy = 1'000;  // leaves; then their rounds are not to be measured

class Company {
 public:
  explicit Company(std::uint64_t leaves)
      : leaves_(leaves),
        world_(
            [this](test::SampleCompany& company) {
              for (std::size_t i = 0; i < kWitnesses; ++i)
                company.policy.witnesses.at(i).url = witnesses_.url(i);
              for (unsigned i = 0; i < kEngineers; ++i)
                company.add_person(engineer(i), "us", "sre", {"db-oncall"});
            },
            SALLYPORT_KEYGUARD_PROGRAM) {
    witnesses_.are_of(company().company, [this] { return begun_; });
  }

  void work() {
    const std::string socket = world_.state().string() + ".socket";
    send(Message::kHead, std::move(Writer{}
                                       .prefixed32(as_bytes(socket))
                                       .prefixed32(as_bytes(company().origin().get()))
                                       .raw(view(company().genesis)))
                             .take());
    take();
    begun_ = company().now;
    send_page(1);  // every log begins with one leaf alone
    cosign();
    for (unsigned i = 0; i < kEngineers; ++i) company().machine(laptop(i));
    machines_ = kEngineers;
    while (made_ < leaves_) step();
    std::fflush(stdout);
    while (world_.status().size.get() < sent_) std::this_thread::sleep_for(100ms);
  }

 private:
  struct Access {
    OpenCase open;
    unsigned step = 0, steps = 0;
  };
  static std::string engineer(unsigned i) { return "engineer-" + std::to_string(i); }
  static std::string laptop(unsigned i) { return "laptop-" + std::to_string(i); }
  test::RecordScenario& company() { return world_.company; }
  unsigned any(unsigned below) { return static_cast<unsigned>(random_() % below); }

  // step does the next thing that somebody does, and takes what it put into the log.
  void step() {
    if (due(kPolicyEvery, next_policy_)) {
      accesses_.clear();  // a new policy asks for new approvals; these expire
      value_of(company().change_policy([this](test::SamplePolicy& policy) {
        policy.rule("us-oncall-to-user-db").duration = next_policy_ / kPolicyEvery % 2 == 0 ? "15m" : "20m";
      }));
    } else if (due(kMachineEvery, next_machine_)) {
      company().machine(laptop(machines_++));
    } else if (due(kRevocationEvery, next_revocation_)) {
      const std::string old = laptop(revoked_++);
      value_of(company().revoke(record::RevocationKind::kDevice, to_hex(company().machine(old).device())));
      std::erase_if(accesses_, [&](const Access& access) { return access.open.machine == old; });
    } else if (accesses_.size() < kAccesses) {
      begin();
    } else {
      const unsigned which = any(kAccesses);
      if (!go_on(accesses_[which])) accesses_.erase(accesses_.begin() + which);
    }
    take();
    if (made_ >= kHeardBy) witnesses_.go_away();
    if (pending_.size() >= kPage) {
      send_page(kPage);
      company().advance(kBetweenPages);
      cosign();
    } else if (made_ >= noted_ + kNoteEvery) {
      cosign();
    }
  }
  bool due(std::uint64_t every, std::uint64_t& next) const {
    if (made_ < next) return false;
    next += every;
    return true;
  }

  void begin() {
    test::RecordScenario::RequestStep step;
    step.person = engineer(any(kEngineers));
    step.machine = laptop(revoked_ + any(machines_ - revoked_));
    step.note = note_;
    const unsigned end = any(100);
    if (end < 5) step.person = "mona";  // whom no rule lets in
    OpenCase open = company().request(step);
    if (end < 5) {
      value_of(company().append(value_of(
          record::compose_refusal(company().state, open.id, company().now, crypto::random_nonce()))));
    } else if (end < 8) {
      value_of(company().deny(open.id, "alice"));
    } else if (end >= 11) {  // of those between, nobody takes notice
      accesses_.push_back({std::move(open), 0, end < 30 ? 9u : 7u});
    }
  }

  // go_on takes the next step of an access; false when it is over.
  bool go_on(Access& access) {
    static const char* const kApprovers[] = {"alice", "bob", "dana"};
    const OpenCase& open = access.open;
    const unsigned step = access.step++;
    Result<LeafIndex> done = Error{Code::kInternal, "not done"};
    if (step < 3) {
      test::RecordScenario::ApprovalStep approval;
      approval.note = note_;
      done = company().approve(open.id, kApprovers[step], approval);
    } else if (step == 3) {
      test::RecordScenario::GrantStep grant;
      grant.note = note_;
      done = company().grant(open, grant);
    } else if (step == 4) {
      // The region's key is on the token, so this is signed as the keyguard would.
      done = append_lease(open);
    } else if (step % 2 == 1) {
      done = company().append(Kind::kSessionOpened, open.id, company().session_opened(open, step / 2 - 1));
    } else {
      done = company().append(Kind::kSessionClosed, open.id, company().session_closed(open, step / 2 - 2));
    }
    return done.has_value() && access.step < access.steps;
  }

  Result<LeafIndex> append_lease(const OpenCase& open) {
    const record::DecisionStatement& decision = *company().state.cases.at(open.id).decision;
    const record::Lease lease{.account = decision.account,
                              .authority = company().company.policy.origin,
                              .case_id = open.id,
                              .content = crypto::sha256(as_bytes("content")),
                              .cp_hash = crypto::sha256(as_bytes("parameters")),
                              .expiration_s = 10,
                              .host = decision.host,
                              .nonce = crypto::sha256(as_bytes("nonceTPM")),
                              .time = company().now};
    record::Envelope envelope{record::payload_type(Kind::kLease), record::encode(lease), {}};
    envelope.signatures.push_back(
        {world_.keys.lease.public_key().id(),
         value_of(world_.token.sign_p256(world_.keys.lease, record::statement_digest(envelope)))});
    return company().append(Kind::kLease, open.id, {record::encode_envelope(envelope), {}});
  }

  void take() {
    auto& entries = company().entries;
    made_ += entries.size();
    std::move(entries.begin(), entries.end(), std::back_inserter(pending_));
    entries.clear();
  }
  void send_page(std::size_t size) {
    record::EntryPage page;
    page.from = LeafIndex{sent_};
    const auto end = pending_.begin() + static_cast<std::ptrdiff_t>(size);
    page.entries.assign(std::make_move_iterator(pending_.begin()), std::make_move_iterator(end));
    pending_.erase(pending_.begin(), end);
    sent_ += size;
    send(Message::kPage, record::encode_entry_page(page));
    // The leaves of a checkpoint come before it.
    std::erase_if(notes_, [this](const SizedNote& note) {
      if (note.size.get() > sent_) return false;
      send(Message::kNote, std::move(Writer{}.u64(note.size.get()).prefixed32(as_bytes(note.note))).take());
      return true;
    });
  }
  // cosign makes the checkpoint that people see from now on. Here its signatures are verified once, not once
  // for each who shows it.
  void cosign() {
    noted_ = made_;
    note_ = company().cosign();
    notes_.push_back({TreeSize{made_}, note_});
    const auto known = std::make_shared<const record::VerifiedAhead>(
        record::verify_ahead(record::claims_of(company().policy(), note_)));
    company().state.control.remember(known);
    company().follower.remember(known);
    if (made_ == sent_) send_page(0);
  }

  const std::uint64_t leaves_;
  UnixMillis begun_;  // the witnesses' time: append_log hears them when it has come no further
  Witnesses witnesses_{kWitnesses};
  test::GuardWorld world_;
  std::mt19937 random_{4711};
  std::vector<Access> accesses_;
  std::vector<record::Entry> pending_;
  std::vector<SizedNote> notes_;  // of leaves that were not sent yet
  std::string note_;
  std::uint64_t made_ = 0, sent_ = 0, noted_ = 0;
  std::uint64_t next_policy_ = kPolicyEvery, next_machine_ = kMachineEvery,
                next_revocation_ = kRevocationEvery;
  unsigned machines_ = 0, revoked_ = 0;
};

}  // namespace
}  // namespace sallyport::bench

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "make_log LEAVES | append_log DIRECTORY\n";
    return 64;
  }
  ::fcntl(STDOUT_FILENO, F_SETPIPE_SZ, 1 << 20);  // some pages, so that both work at once
  sallyport::bench::Company{std::stoull(argv[1])}.work();
}
