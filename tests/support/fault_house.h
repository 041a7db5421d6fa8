#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "attestation/ledger/compact_range.h"
#include "tests/support/broker_access.h"
#include "tests/support/fault_points.h"

// A house of real programs under which calls on files can be struck, and what it may never lose.
namespace sallyport::test {

// Told holds every checkpoint that ever left a process, and every leaf that was acknowledged.
class Told {
 public:
  void note(const std::string& text);
  void leaf(const Digest256& statement, std::uint64_t index) {
    const std::lock_guard lock{mutex_};
    leaves_.emplace_back(statement, index);
  }
  std::map<std::uint64_t, Digest256> heads() const {
    const std::lock_guard lock{mutex_};
    return heads_;
  }
  std::vector<std::pair<Digest256, std::uint64_t>> leaves() const {
    const std::lock_guard lock{mutex_};
    return leaves_;
  }
  std::size_t count() const {
    const std::lock_guard lock{mutex_};
    return leaves_.size();
  }
  std::string summary() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::uint64_t, Digest256> heads_;
  std::vector<std::pair<Digest256, std::uint64_t>> leaves_;
  std::size_t notes_ = 0;
};

// House is keyguard, broker and three witnesses, of which two must cosign. Everything that goes from the
// keyguard to the broker is looked at on its way.
class House {
 public:
  House();

  TemporaryDirectory directory;
  FaultFile broker_faults{directory / "broker"}, keyguard_faults{directory / "keyguard"},
      witness_faults{directory / "witness"};
  Told told;
  BrokerProcess world;
  Access access;

  FaultFile& faults(const std::string& part) {
    return part == "broker" ? broker_faults : part == "keyguard" ? keyguard_faults : witness_faults;
  }
  Process& process(const std::string& part);
  bool start(const std::string& part);

  // SoftHSM writes a token's file in place at each login (CKF_USER_PIN_COUNT_LOW), so that a process that is
  // killed over it leaves it cut off, and the token is gone for good. No device does this: the file is put
  // back.
  void mend_token();
  std::size_t mended() const { return mended_; }

  struct Revoking {
    Digest256 digest;
    record::Submission submission;
  };
  Revoking revoking() const;

  // check reads the whole log anew. Each of its entries is one that an honest broker may append, and the one
  // that was read before; it leads to every head that anybody was shown, and to what the witnesses remember;
  // what was acknowledged is where it was; no statement is there twice, no case has two grants.
  void check();
  std::size_t grants() const { return grants_.size(); }

  // judge_output: a program that stops says why, and none breaks.
  void judge_output(const std::string& part);

 private:
  BrokerProcess::Programs programs();
  void remember(const WitnessProcess& witness);
  // take keeps what an entry leads to; some were read in the course of an access.
  void take(const record::Entry& entry, std::uint64_t index);

  std::size_t mended_ = 0;
  std::map<std::string, std::size_t> judged_;  // of each part's output
  std::uint64_t noted_ = 0;
  ledger::CompactRange range_;
  std::vector<Digest256> roots_{ledger::CompactRange{}.root()};  // by size
  std::map<Digest256, std::uint64_t> in_log_;
  std::map<CaseId, int> grants_;
};

// Work is done by clients that try again until they are told: three append at once, and one asks for the
// certificate of a case that was approved.
class Work {
 public:
  Work(House& house, std::optional<OpenCase> open);
  ~Work();
  bool done() const { return done_ == threads_.size(); }
  std::string refusal() const;
  const std::optional<OpenCase>& open() const { return open_; }
  const std::optional<api::Activated>& given() const { return given_; }  // when it is done

 private:
  void try_until_told(const std::function<Status()>& step);
  void append();
  void activate();

  House& house_;
  std::optional<OpenCase> open_;
  std::optional<api::Activated> given_;
  std::atomic<bool> give_up_ = false;
  std::atomic<std::size_t> done_ = 0;
  mutable std::mutex mutex_;
  std::string refusal_;
  std::vector<std::thread> threads_;
};

// check_given: what was given in a case is given again, the same, and proves itself.
void check_given(House& house, const Work& work);

}  // namespace sallyport::test
