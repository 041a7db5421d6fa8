#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"
#include "attestation/evidence/quote.h"

namespace sallyport::evidence {

inline constexpr std::size_t kMaxEventLogBytes = 1024 * 1024;
inline constexpr std::size_t kMaxEvents = 65536;
inline constexpr std::size_t kMaxLogAlgorithms = 16;
inline constexpr std::uint32_t kNoPcr = 0xFFFFFFFF;  // only EV_NO_ACTION may be of no PCR

// LogAlgorithm names the banks that can be replayed, by TPM_ALG_ID. Logs may hold others (SM3, SHA-3): they
// are parsed and left alone.
enum class LogAlgorithm : std::uint16_t {
  kSha1 = 0x0004,
  kSha256 = 0x000B,
  kSha384 = 0x000C,
  kSha512 = 0x000D
};
inline constexpr std::array kLogAlgorithms{LogAlgorithm::kSha1, LogAlgorithm::kSha256, LogAlgorithm::kSha384,
                                           LogAlgorithm::kSha512};
std::optional<LogAlgorithm> find_log_algorithm(std::uint16_t tpm_alg_id);
std::string log_algorithm_name(std::uint16_t tpm_alg_id);  // "sha256", "sm3_256", "0x1234"
inline std::string log_algorithm_name(LogAlgorithm bank) {
  return log_algorithm_name(static_cast<std::uint16_t>(bank));
}
std::size_t digest_size(LogAlgorithm bank);

// SP_EVENT_TYPES is the closed table of event types (TCG PC Client Platform Firmware Profile 1.06, PFP).
// A type is not measured: by itself it proves nothing.
#define SP_EVENT_TYPES(X)                                                        \
  X(kPrebootCert, 0x00000000, "EV_PREBOOT_CERT")                                 \
  X(kPostCode, 0x00000001, "EV_POST_CODE")                                       \
  X(kUnused, 0x00000002, "EV_UNUSED")                                            \
  X(kNoAction, 0x00000003, "EV_NO_ACTION")                                       \
  X(kSeparator, 0x00000004, "EV_SEPARATOR")                                      \
  X(kAction, 0x00000005, "EV_ACTION")                                            \
  X(kEventTag, 0x00000006, "EV_EVENT_TAG")                                       \
  X(kSCrtmContents, 0x00000007, "EV_S_CRTM_CONTENTS")                            \
  X(kSCrtmVersion, 0x00000008, "EV_S_CRTM_VERSION")                              \
  X(kCpuMicrocode, 0x00000009, "EV_CPU_MICROCODE")                               \
  X(kPlatformConfigFlags, 0x0000000A, "EV_PLATFORM_CONFIG_FLAGS")                \
  X(kTableOfDevices, 0x0000000B, "EV_TABLE_OF_DEVICES")                          \
  X(kCompactHash, 0x0000000C, "EV_COMPACT_HASH")                                 \
  X(kIpl, 0x0000000D, "EV_IPL")                                                  \
  X(kIplPartitionData, 0x0000000E, "EV_IPL_PARTITION_DATA")                      \
  X(kNonhostCode, 0x0000000F, "EV_NONHOST_CODE")                                 \
  X(kNonhostConfig, 0x00000010, "EV_NONHOST_CONFIG")                             \
  X(kNonhostInfo, 0x00000011, "EV_NONHOST_INFO")                                 \
  X(kOmitBootDeviceEvents, 0x00000012, "EV_OMIT_BOOT_DEVICE_EVENTS")             \
  X(kPostCode2, 0x00000013, "EV_POST_CODE2")                                     \
  X(kEfiVariableDriverConfig, 0x80000001, "EV_EFI_VARIABLE_DRIVER_CONFIG")       \
  X(kEfiVariableBoot, 0x80000002, "EV_EFI_VARIABLE_BOOT")                        \
  X(kEfiBootServicesApplication, 0x80000003, "EV_EFI_BOOT_SERVICES_APPLICATION") \
  X(kEfiBootServicesDriver, 0x80000004, "EV_EFI_BOOT_SERVICES_DRIVER")           \
  X(kEfiRuntimeServicesDriver, 0x80000005, "EV_EFI_RUNTIME_SERVICES_DRIVER")     \
  X(kEfiGptEvent, 0x80000006, "EV_EFI_GPT_EVENT")                                \
  X(kEfiAction, 0x80000007, "EV_EFI_ACTION")                                     \
  X(kEfiPlatformFirmwareBlob, 0x80000008, "EV_EFI_PLATFORM_FIRMWARE_BLOB")       \
  X(kEfiHandoffTables, 0x80000009, "EV_EFI_HANDOFF_TABLES")                      \
  X(kEfiPlatformFirmwareBlob2, 0x8000000A, "EV_EFI_PLATFORM_FIRMWARE_BLOB2")     \
  X(kEfiHandoffTables2, 0x8000000B, "EV_EFI_HANDOFF_TABLES2")                    \
  X(kEfiVariableBoot2, 0x8000000C, "EV_EFI_VARIABLE_BOOT2")                      \
  X(kEfiGptEvent2, 0x8000000D, "EV_EFI_GPT_EVENT2")                              \
  X(kEfiHcrtmEvent, 0x80000010, "EV_EFI_HCRTM_EVENT")                            \
  X(kEfiVariableAuthority, 0x800000E0, "EV_EFI_VARIABLE_AUTHORITY")              \
  X(kEfiSpdmFirmwareBlob, 0x800000E1, "EV_EFI_SPDM_FIRMWARE_BLOB")               \
  X(kEfiSpdmFirmwareConfig, 0x800000E2, "EV_EFI_SPDM_FIRMWARE_CONFIG")           \
  X(kEfiSpdmDevicePolicy, 0x800000E3, "EV_EFI_SPDM_DEVICE_POLICY")               \
  X(kEfiSpdmDeviceAuthority, 0x800000E4, "EV_EFI_SPDM_DEVICE_AUTHORITY")

enum class EventType : std::uint32_t {
#define SP_EVENT_TYPE_ENUM(enumerator, value, name) enumerator = value,
  SP_EVENT_TYPES(SP_EVENT_TYPE_ENUM)
#undef SP_EVENT_TYPE_ENUM
};
std::optional<EventType> find_event_type(std::uint32_t type);
std::string event_type_name(std::uint32_t type);  // "EV_SEPARATOR"; of others the number: "0x80000099"

// LogEvent is one event as the log claims it. Its views are into the log, which must outlive them.
class LogEvent {
 public:
  std::uint32_t number = 0;  // its place in the log, from 0
  std::uint32_t pcr = 0;     // 0–23, or kNoPcr
  std::uint32_t type = 0;    // claimed, never measured
  ByteView data;             // claimed; measured only where data_hashes_to_digest says so

  bool is(EventType of) const { return type == static_cast<std::uint32_t>(of); }
  bool extends() const { return !is(EventType::kNoAction); }
  // digest gives what the event extends into a bank; absent: the event does not cover that bank.
  std::optional<ByteView> digest(LogAlgorithm bank) const;

 private:
  friend class EventLogParser;
  std::array<ByteView, kLogAlgorithms.size()> digests_;  // an empty view is none
};

// LogBank is an algorithm that a log says it covers, by TPM_ALG_ID, and the size of its digests.
struct LogBank {
  std::uint16_t algorithm = 0;
  std::uint16_t digest_bytes = 0;
  friend bool operator==(const LogBank&, const LogBank&) = default;
};

// EventLog is a TCG event log: crypto-agile (TCG_PCR_EVENT2 after a "Spec ID Event03") or of SHA-1 only
// (TCG_PCR_EVENT). It owns its bytes, and can be moved but not copied, since its events are views into them.
class EventLog {
 public:
  // parse checks the form (PFP 1.05 and 1.06: TCG_PCR_EVENT2, TCG_EfiSpecIDEvent): 1 byte to
  // kMaxEventLogBytes, 1 to kMaxEvents events, the Spec ID event exactly, 1 to kMaxLogAlgorithms algorithms
  // each once and of its size, digests only of those algorithms and none twice, PCR 0–23 (EV_NO_ACTION also
  // kNoPcr), at most one StartupLocality and one H-CRTM event, both before anything else extends PCR 0.
  // What follows the last event is padding when it is all 0x00 or all 0xFF to the end; no event is all 0x00.
  //   Proves:         nothing about the machine: whoever sends a log wrote it as he liked (verify_event_log).
  //   Errors:         kMalformed (kEventLogForm), with the number of the event.   Pure; below 16 MiB of
  //   memory.
  static Result<EventLog> parse(Bytes bytes);

  EventLog(EventLog&&) noexcept = default;
  EventLog& operator=(EventLog&&) noexcept = default;
  EventLog(const EventLog&) = delete;
  EventLog& operator=(const EventLog&) = delete;

  ByteView bytes() const { return bytes_; }
  std::span<const LogEvent> events() const { return events_; }  // never empty; the Spec ID event is number 0
  bool crypto_agile() const { return crypto_agile_; }
  std::span<const LogBank> banks() const { return banks_; }  // in the log's order; SHA-1 alone for old logs
  bool has_bank(LogAlgorithm bank) const;
  // startup_locality is what the StartupLocality event states: 0, 3 or 4.
  std::optional<std::uint8_t> startup_locality() const { return startup_locality_; }
  // pcr0_start is the last octet of PCR 0 before anything is extended: the locality, or 4 for an H-CRTM.
  std::uint8_t pcr0_start() const { return startup_locality_.value_or(hcrtm_ ? 4 : 0); }
  std::size_t padding_bytes() const { return padding_bytes_; }

 private:
  friend class EventLogParser;
  EventLog() = default;
  Bytes bytes_;
  std::vector<LogEvent> events_;
  std::vector<LogBank> banks_;
  std::optional<std::uint8_t> startup_locality_;
  std::size_t padding_bytes_ = 0;
  bool crypto_agile_ = false, hcrtm_ = false;
};

// ReplayedPcrs are the values that a log comes to in one bank.
class ReplayedPcrs {
 public:
  LogAlgorithm bank() const { return bank_; }
  // find gives a PCR's value; none when no event extends it. Then nothing is known of that PCR, and it must
  // not be taken for its value at start.
  std::optional<ByteView> find(std::uint32_t pcr) const;

 private:
  friend Result<ReplayedPcrs> replay(const EventLog& log, LogAlgorithm bank);
  explicit ReplayedPcrs(LogAlgorithm bank) : bank_(bank) {}
  LogAlgorithm bank_;
  std::array<ByteArray<64>, 24> values_{};
  std::uint32_t extended_ = 0;  // bit n is PCR n
};

// replay extends what a log claims, from the values of a TPM's start: zero; FF… for PCR 17–22; for PCR 0 the
// locality of a StartupLocality event, or 4 after an H-CRTM event, in the last octet. EV_NO_ACTION extends
// nothing.
//   Does not prove: that a TPM has these values (verify_event_log).
//   Errors:         kUnverified (kEventLogBank): the log does not name the bank, or an event that extends has
//                   no digest of it.   Pure; one hash an event.
Result<ReplayedPcrs> replay(const EventLog& log, LogAlgorithm bank);

// replayed_values are the values of a selection, in order of index.
// Errors: kUnverified (kEventLogBank: they are of another bank than SHA-256; kEventLogReplay: no event
// extends a PCR of the selection).
Result<std::vector<Digest256>> replayed_values(const ReplayedPcrs& pcrs, const PcrSelection& selection);

// In PCR 0–7 every firmware measures at least a separator; what comes after is of boot loaders that a machine
// need not have.
inline constexpr std::uint8_t kFirstOfBootLoaders = 8;

// verify_event_log replays a log's SHA-256 bank and compares it with what a TPM quoted.
//   Proves:         of the quoted PCRs the log has exactly the digests that were extended since the TPM's
//   start, in their order; a PCR without events, which may be one of kFirstOfBootLoaders on, is at zero. Does
//   not prove: any event's type, nor its data unless data_hashes_to_digest; anything about PCRs that were not
//   quoted; that these events are good ones (appraisal). Errors: kUnverified with kEventLogBank or
//   kEventLogReplay.   Pure; one hash an event.
Result<ReplayedPcrs> verify_event_log(const EventLog& log, const VerifiedQuote& quote);
// The same against PCRs of which only the caller knows where they come from: their digest, and where they are
// known their values, which serve to say which differ.
Result<ReplayedPcrs> verify_event_log(const EventLog& log, const PcrSelection& selection,
                                      const Digest256& digest, std::span<const Digest256> values = {});
// The part of it that is about values: what a log comes to (replayed_values) is what a TPM has.
// Errors: kUnverified (kEventLogReplay).
Status check_replayed(std::span<const Digest256> replayed, const PcrSelection& selection,
                      const Digest256& digest, std::span<const Digest256> values = {});

// data_hashes_to_digest: the event's SHA-256 digest is the hash of its data. Only of such events may data be
// taken as a fact, and only once verify_event_log has succeeded. (Many events are measured otherwise: of an
// image, a blob or a table the data only says where it lay.)
bool data_hashes_to_digest(const LogEvent& event);

}  // namespace sallyport::evidence
