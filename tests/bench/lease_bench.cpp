// One leased use of a session key, on swtpm: the floor is the time that its TPM commands take from the first
// byte sent to the last received, and one round trip for the lease.

#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "attestation/crypto/digest.h"
#include "attestation/tpm/transport.h"
#include "tests/bench/floor.h"
#include "tests/support/swtpm.h"

namespace sallyport::bench {
namespace {

using Clock = std::chrono::steady_clock;
using test::value_of;

struct DeviceTime {
  Nanoseconds took{0};
  std::int64_t commands = 0;
};

// TimedTransport tells how long the device took.
class TimedTransport : public tpm::Transport {
 public:
  TimedTransport(std::unique_ptr<Transport> under, std::shared_ptr<DeviceTime> time)
      : under_(std::move(under)), time_(std::move(time)) {}
  Result<Bytes> exchange(ByteView command) override {
    const auto start = Clock::now();
    auto response = under_->exchange(command);
    time_->took += Clock::now() - start;
    ++time_->commands;
    return response;
  }
  bool is_managed() const override { return under_->is_managed(); }
  bool is_simulator() const override { return under_->is_simulator(); }

 private:
  std::unique_ptr<Transport> under_;
  std::shared_ptr<DeviceTime> time_;
};

// Echo is the other side of a round trip: a thread behind a socket pair.
class Echo {
 public:
  Echo() {
    SP_ASSERT(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets_) == 0);
    thread_ = std::thread{[other = sockets_[1]] {
      char byte = 0;
      while (read(other, &byte, 1) == 1 && write(other, &byte, 1) == 1) {
      }
    }};
  }
  ~Echo() {
    shutdown(sockets_[0], SHUT_RDWR);
    thread_.join();
    close(sockets_[0]);
    close(sockets_[1]);
  }
  Echo(const Echo&) = delete;
  Echo& operator=(const Echo&) = delete;
  void round_trip() {
    char byte = 1;
    SP_ASSERT(write(sockets_[0], &byte, 1) == 1 && read(sockets_[0], &byte, 1) == 1);
  }

 private:
  int sockets_[2] = {-1, -1};
  std::thread thread_;
};

void leased_signature(benchmark::State& state) {
  const test::TemporarySwtpm emulator;
  const auto time = std::make_shared<DeviceTime>();
  tpm::Tpm tpm{std::make_unique<TimedTransport>(value_of(tpm::open_tcti(emulator.tcti())), time)};
  const auto lease_key = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);
  const auto selection = evidence::PcrSelection::standard();
  const auto boot = value_of(tpm.boot_time());
  const evidence::SessionKeyPolicy policy{
      selection,
      evidence::pcr_digest(value_of(tpm.read_pcrs(selection))),
      boot.clock.reset_count,
      boot.clock.restart_count,
      value_of(evidence::lease_key_public(lease_key.public_key())).name,
      evidence::lease_policy_ref(Origin{"us.sallyport.example/log/1"}, CaseId{ByteArray<16>{7}})};
  const auto key =
      value_of(tpm.create_session_key(evidence::SessionKeyUse::kSign, policy, lease_key.public_key()));
  const Digest256 digest = crypto::sha256(as_bytes("a login"));
  Echo echo;

  Nanoseconds ours_took{0}, trips_took{0};
  *time = {};
  for (auto _ : state) {
    const auto start = Clock::now();
    echo.round_trip();
    const auto asked = Clock::now();
    trips_took += asked - start;
    auto session = value_of(tpm.begin_lease());
    echo.round_trip();
    const auto hash = value_of(evidence::lease_hash(
        session.nonce_tpm(), 30, evidence::cp_hash_sign(key.name, digest), policy.policy_ref));
    const tpm::Lease lease{30, value_of(lease_key.sign_p256(hash))};
    value_of(tpm.sign_with_lease(std::move(session), key, lease, digest));
    const auto end = Clock::now();
    ours_took += end - asked;
    state.SetIterationTime(std::chrono::duration<double>(end - asked).count());
  }
  const Nanoseconds floor = time->took + trips_took;
  state.counters["floor_us"] = microseconds(floor, state.iterations());
  state.counters["commands"] = static_cast<double>(time->commands) / static_cast<double>(state.iterations());
  state.counters["times_floor"] = static_cast<double>(ours_took.count()) / static_cast<double>(floor.count());
}
BENCHMARK(leased_signature)->UseManualTime();

}  // namespace
}  // namespace sallyport::bench

BENCHMARK_MAIN();
