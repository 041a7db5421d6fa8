#include "attestation/tpm/transport.h"

#include <tss2/tss2_tcti.h>
#include <tss2/tss2_tctildr.h>

#include <algorithm>
#include <cstdlib>
#include <future>
#include <mutex>
#include <thread>
#include <utility>

#include "attestation/tpm/next_step.h"

namespace sallyport::tpm {
namespace {

constexpr std::size_t kMaxResponseBytes = 4096;  // TPM2_MAX_RESPONSE_SIZE

struct FinalizeTcti {
  void operator()(TSS2_TCTI_CONTEXT* tcti) const noexcept { Tss2_TctiLdr_Finalize(&tcti); }
};

// The log of tpm2-tss reads its level from the environment once, at its first line; without this every
// expected refusal of a TPM, and every try for a device that is not there, is an ERROR on the person's
// terminal.
void silence_tss_log() {
  static std::once_flag once;
  std::call_once(once, [] { ::setenv("TSS2_LOG", "all+none", 0); });
}

Error busy() {
  return Error{Code::kUnavailable, Reason::kTpmBusy,
               "the TPM does not answer: another program holds it, or it hangs. End what else uses it "
               "(fuser /dev/tpm0 /dev/tpmrm0 tells), and run the command again",
               Next::kRetryLater, 0};
}

// Hand does what may block on a thread of its own, one thing at a time. tpm2-tss 3.2 knows timeouts only in
// TCTIs of devices whose driver can be polled: a socket is connected to, written and read until it answers.
// What passes the deadline is left to its thread, which keeps alive what it uses.
class Hand {
 public:
  explicit Hand(Patience patience) : patience_(std::move(patience)) {}

  template <class Answer>
  Result<Answer> run(std::function<Result<Answer>()> work) {
    if (owed_.valid() && owed_.wait_for(std::chrono::seconds{0}) != std::future_status::ready) return busy();
    auto answer = std::make_shared<std::promise<Result<Answer>>>();
    auto over = std::make_shared<std::promise<void>>();
    auto coming = answer->get_future();
    owed_ = over->get_future();
    std::thread{[answer, over, work = std::move(work)]() mutable {
      answer->set_value(work());
      work = nullptr;  // what it holds goes before anybody can know that it is over
      over->set_value();
    }}.detach();
    const auto quiet = std::min(patience_.quiet, patience_.deadline);
    if (owed_.wait_for(quiet) != std::future_status::ready) {
      if (const auto waiting = std::exchange(patience_.waiting, {})) waiting();
      if (owed_.wait_for(patience_.deadline - quiet) != std::future_status::ready) return busy();
    }
    return coming.get();
  }

 private:
  Patience patience_;
  std::future<void> owed_;
};

Result<Bytes> exchange_now(TSS2_TCTI_CONTEXT* tcti, ByteView command) {
  if (const TSS2_RC rc = Tss2_Tcti_Transmit(tcti, command.size(), command.data()); rc != TSS2_RC_SUCCESS)
    return device_error(rc, "sending a command");
  Bytes response(kMaxResponseBytes);
  std::size_t size = response.size();
  if (const TSS2_RC rc = Tss2_Tcti_Receive(tcti, &size, response.data(), TSS2_TCTI_TIMEOUT_BLOCK);
      rc != TSS2_RC_SUCCESS)
    return device_error(rc, "receiving a response");
  if (size > response.size()) return Error{Code::kMalformed, Reason::kTpm, "response longer than its buffer"};
  response.resize(size);
  return response;
}

class Tcti final : public Transport {
 public:
  Tcti(std::shared_ptr<TSS2_TCTI_CONTEXT> tcti, const std::string& configuration, Hand hand)
      : tcti_(std::move(tcti)), hand_(std::move(hand)) {
    const auto has = [&](std::string_view start) { return configuration.starts_with(start); };
    simulator_ = has("swtpm") || has("mssim") || has("libtss2-tcti-swtpm") || has("libtss2-tcti-mssim");
    managed_ = has("tabrmd") || configuration.find("tpmrm") != std::string::npos || configuration == "device";
  }

  Result<Bytes> exchange(ByteView command) override {
    return hand_.run<Bytes>(
        [tcti = tcti_, bytes = to_bytes(command)] { return exchange_now(tcti.get(), bytes); });
  }
  bool is_managed() const override { return managed_; }
  bool is_simulator() const override { return simulator_; }

 private:
  std::shared_ptr<TSS2_TCTI_CONTEXT> tcti_;  // shared with an exchange that is under way
  Hand hand_;
  bool managed_ = false, simulator_ = false;
};

}  // namespace

Result<std::unique_ptr<Transport>> open_tcti(const std::string& configuration, Patience patience) {
  silence_tss_log();
  Hand hand{std::move(patience)};
  SP_TRY(auto tcti, hand.run<std::shared_ptr<TSS2_TCTI_CONTEXT>>(
                        [configuration]() -> Result<std::shared_ptr<TSS2_TCTI_CONTEXT>> {
                          TSS2_TCTI_CONTEXT* opened = nullptr;
                          const TSS2_RC rc = Tss2_TctiLdr_Initialize(configuration.c_str(), &opened);
                          if (rc == TSS2_RC_SUCCESS)
                            return std::shared_ptr<TSS2_TCTI_CONTEXT>{opened, FinalizeTcti{}};
                          Error error = device_error(rc, "opening " + configuration);
                          error.code = Code::kUnavailable;
                          error.reason = Reason::kTpmAbsent;
                          return error;
                        }));
  return std::unique_ptr<Transport>{std::make_unique<Tcti>(std::move(tcti), configuration, std::move(hand))};
}

}  // namespace sallyport::tpm
