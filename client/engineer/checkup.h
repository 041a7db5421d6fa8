#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "attestation/record/state.h"
#include "attestation/tpm/tpm.h"

namespace sallyport::client::engineer {

// Check is what `sallyport doctor` tells of one thing.
struct Check {
  enum class State : std::uint8_t { kOk, kWrong, kNotChecked };
  std::string name;
  State state = State::kOk;
  std::string words;           // what is, what is wrong, or why it was not checked
  std::string mend;            // what to do; may be empty where nothing is wrong
  std::optional<Error> error;  // of kWrong: its reason decides the exit code
};
Check well(std::string name, std::string words);
Check wrong(std::string name, Error error,
            std::string mend = {});  // without `mend` the reason's next step, if need be
Check not_checked(std::string name, std::string why, std::string mend = {});

// exit_code is 0, or that of the first check that is wrong. What was not checked is not wrong.
int exit_code(std::span<const Check> checks);
// text and json give all checks, whatever is in them as printable text.
std::string text_of(std::span<const Check> checks);
std::string json_of(std::span<const Check> checks);

// The judgements, each of what was read before. Pure.

// check_tpm_counters: the TPM has counted a reset, without which nothing it proves is taken (boot_state.h).
Check check_tpm_counters(const tpm::BootTime& boot);

// check_endorsement: the certificate is one, and with a policy, one of its roots vouches for it.
Check check_endorsement(const tpm::Endorsement& endorsement, const record::LoadedPolicy* policy,
                        UnixMillis now);

// check_measurements: the event log comes to what the TPM's PCRs are now.
Check check_measurements(const evidence::EventLog& log, const evidence::PcrSelection& selection,
                         std::span<const Digest256> pcrs);

// check_clock: this machine's clock against the time at which witnesses cosigned the newest checkpoint, and
// the time that the broker says it is.
Check check_clock(UnixMillis now, UnixMillis cosigned, UnixMillis broker);

// check_enrolment: this machine is enrolled with this attestation key, and neither retired, lost nor revoked.
Check check_enrolment(const record::ControlState& control, const DeviceId& device, ByteView ak);

// check_since_enrolment: the TPM's counters have not gone back behind those of its enrolment, as the log has
// them. It does not tell whether they went back behind a later request's: followers have no bodies of those.
Check check_since_enrolment(const record::Device& device, const evidence::ClockInfo& clock);

// check_firmware: the TPM's firmware is in no row of the table of known weaknesses (evidence/tpm_firmware.h)
// that holds at `now`. `maker` is as the log has it of an enrolled machine, else as the TPM says.
Check check_firmware(std::string_view maker, std::uint64_t firmware_version, crypto::KeyAlgorithm ak,
                     UnixMillis now);

// check_boot: what the policy in force would say of the boot that this quote shows. `device` is null for a
// machine that is not enrolled, `log` where there is none.
Check check_boot(const evidence::VerifiedQuote& quote, const record::Device* device,
                 const evidence::EventLog* log, const record::LoadedPolicy& policy, UnixMillis now);

// check_files: what the policy in force would say of the files that were measured, by what PCR 10 is.
Check check_files(const evidence::ImaList& list, const Digest256& pcr10, const record::LoadedPolicy& policy);

}  // namespace sallyport::client::engineer
