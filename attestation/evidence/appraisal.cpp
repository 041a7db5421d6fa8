#include "attestation/evidence/appraisal.h"

#include <algorithm>
#include <array>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/evidence/efi.h"

namespace sallyport::evidence {
namespace {

constexpr unsigned kSecureBootPcr = 7;

class Judge {
 public:
  Judge(const EventLog& log, const PcrSelection& selection, const Reference& reference,
        std::size_t max_findings)
      : log_(log),
        selection_(selection),
        reference_(reference),
        max_findings_(max_findings),
        seen_(reference.events.size(), 0) {}

  std::vector<BootFinding> run() {
    for (const LogEvent& event : log_.events()) {
      if (!event.extends() || event.pcr > 23 || !selection_.contains(event.pcr)) continue;
      note_secure_boot(event);
      if (reference_.judges(event.pcr)) judge(event);
      if (full()) return std::move(findings_);
    }
    check_separators();
    check_secure_boot();
    check_required();
    return std::move(findings_);
  }

 private:
  bool full() const { return findings_.size() >= max_findings_; }
  void find(BootFinding::Kind kind, std::uint8_t pcr, std::optional<std::uint32_t> event, std::string words) {
    if (!full()) findings_.push_back({kind, pcr, event, std::move(words)});
  }
  static std::string name_of(const LogEvent& event) {
    return "event " + std::to_string(event.number) + " of PCR " + std::to_string(event.pcr) + " (" +
           describe(event) + ", sha256:" + to_hex(sha256_of(event)) + ")";
  }

  void judge(const LogEvent& event) {
    const auto pcr = static_cast<std::uint8_t>(event.pcr);
    const Digest256 digest = sha256_of(event);
    if (pcr < kSeparatedPcrs && is_separator(digest)) {
      if (++separators_[pcr] == 2)
        find(BootFinding::Kind::kSeparator, pcr, event.number,
             "a second separator, " + name_of(event) + ": what follows was not measured by the firmware");
      return;
    }
    const bool after = pcr < kSeparatedPcrs && separators_[pcr] != 0;
    std::optional<std::size_t> at = reference_.find(pcr, after, digest);
    if (!at) at = find_text(event, pcr, after);
    if (!at) {
      find(BootFinding::Kind::kUnexpected, pcr, event.number, name_of(event) + " is not expected");
    } else if (seen_[*at]++ != 0 && !reference_.events[*at].repeats) {
      find(BootFinding::Kind::kRepeated, pcr, event.number,
           name_of(event) + " is expected once, and is there again");
    }
  }

  std::optional<std::size_t> find_text(const LogEvent& event, std::uint8_t pcr, bool after) const {
    std::optional<std::string> text;
    for (std::size_t i = 0; i < reference_.events.size(); ++i) {
      const ExpectedEvent& expected = reference_.events[i];
      if (expected.pcr != pcr || expected.after_separator != after || !expected.digests.empty()) continue;
      if (!text) text = measured_text(event);
      if (!text) return std::nullopt;
      if (matches(expected.pattern, *text)) return i;
    }
    return std::nullopt;
  }

  void note_secure_boot(const LogEvent& event) {
    if (separators_[kSecureBootPcr] != 0) return;  // only the firmware measures before it
    const std::optional<bool> measured = measured_secure_boot(event);
    if (!measured) return;
    if (secure_boot_)
      find(BootFinding::Kind::kSecureBoot, kSecureBootPcr, event.number,
           "Secure Boot is measured twice, again by " + name_of(event));
    secure_boot_ = measured;
  }

  void check_separators() {
    for (std::uint8_t pcr = 0; pcr < kSeparatedPcrs; ++pcr)
      if (selection_.contains(pcr) && reference_.judges(pcr) && separators_[pcr] == 0)
        find(BootFinding::Kind::kSeparator, pcr, std::nullopt,
             "PCR " + std::to_string(pcr) + " has no separator: the firmware never ended its part");
  }

  void check_secure_boot() {
    if (!secure_boot_)
      find(BootFinding::Kind::kSecureBoot, kSecureBootPcr, std::nullopt,
           "the firmware did not measure whether Secure Boot is on");
    else if (*secure_boot_ != reference_.secure_boot)
      find(BootFinding::Kind::kSecureBoot, kSecureBootPcr, std::nullopt,
           *secure_boot_ ? "Secure Boot is on, and the reference says that it is off" : "Secure Boot is off");
  }

  void check_required() {
    for (std::size_t i = 0; i < seen_.size(); ++i) {
      const ExpectedEvent& expected = reference_.events[i];
      if (!expected.required || seen_[i] != 0) continue;
      const std::string named = !expected.what.empty()     ? expected.what
                                : expected.digests.empty() ? expected.pattern
                                                           : "sha256:" + to_hex(expected.digests.front());
      find(BootFinding::Kind::kMissing, expected.pcr, std::nullopt,
           "PCR " + std::to_string(expected.pcr) + " lacks what the reference requires: " + named);
    }
  }

  const EventLog& log_;
  const PcrSelection& selection_;
  const Reference& reference_;
  const std::size_t max_findings_;
  std::vector<std::uint32_t> seen_;  // how often each expected event was there
  std::array<std::uint32_t, kSeparatedPcrs> separators_{};
  std::optional<bool> secure_boot_;
  std::vector<BootFinding> findings_;
};

Error denied(Reason reason, std::string what) {
  return Error{Code::kDenied, reason, std::move(what)};
}

}  // namespace

bool is_separator(const Digest256& digest) {
  static const std::array<Digest256, 2> separators{crypto::sha256(ByteArray<4>{0, 0, 0, 0}),
                                                   crypto::sha256(ByteArray<4>{0xFF, 0xFF, 0xFF, 0xFF})};
  return std::ranges::find(separators, digest) != separators.end();
}

Digest256 sha256_of(const LogEvent& event) {
  ByteArray<32> out{};
  const auto digest = event.digest(LogAlgorithm::kSha256);
  if (digest && digest->size() == out.size()) std::ranges::copy(*digest, out.begin());
  return Digest256{out};
}

std::optional<bool> measured_secure_boot(const LogEvent& event) {
  if (event.pcr != kSecureBootPcr || !event.extends() || !data_hashes_to_digest(event)) return std::nullopt;
  const auto variable = parse_efi_variable(event.data);
  if (!variable || variable->vendor != kEfiGlobalVariable || variable->name != "SecureBoot")
    return std::nullopt;
  return variable->data.size() == 1 && variable->data[0] == 1;
}

std::optional<std::string> measured_text(const LogEvent& event) {
  const std::optional<ByteView> part = measured_part(event);
  if (!part || part->size() > 2 * kMaxEventTextBytes) return std::nullopt;
  std::optional<std::string> text = event_text(*part);
  if (!text || text->empty() || text->size() > kMaxEventTextBytes) return std::nullopt;
  if (!std::ranges::all_of(*text, [](char c) { return c >= 0x20 && c < 0x7F; })) return std::nullopt;
  return text;
}

std::vector<BootFinding> judge_boot(const EventLog& log, const PcrSelection& selection,
                                    const Reference& reference, std::size_t max_findings) {
  return Judge{log, selection, reference, max_findings}.run();
}

bool JudgedLog::accepted(std::size_t reference) const {
  return !not_replayed_ && reference < of_.size() && of_[reference] && of_[reference]->findings == 0;
}

bool JudgedLog::accepted_by_any() const {
  for (std::size_t i = 0; i < of_.size(); ++i)
    if (accepted(i)) return true;
  return false;
}

JudgedLog judge_log(const EventLog& log, const ReferenceValues& values) {
  JudgedLog out;
  const auto replayed = [&]() -> Result<std::vector<Digest256>> {
    SP_TRY(const ReplayedPcrs pcrs, replay(log, LogAlgorithm::kSha256));
    return replayed_values(pcrs, values.selection);
  }();
  if (!replayed.has_value()) {
    out.not_replayed_ = replayed.error();
    return out;
  }
  out.pcrs_ = *replayed;
  out.of_.resize(values.references.size());
  for (std::size_t i = 0; i < values.references.size(); ++i) {
    if (values.references[i].as_enrolled) continue;
    std::vector<BootFinding> findings = judge_boot(log, values.selection, values.references[i]);
    out.of_[i] = JudgedLog::Verdict{findings.size(),
                                    findings.empty() ? std::string{} : std::move(findings.front().words)};
  }
  return out;
}

// BootAppraisal is appraise_boot, which alone reads a JudgedLog.
class BootAppraisal {
 public:
  BootAppraisal(const VerifiedQuote& quote, const BootBaseline& enrolled, const ReferenceValues& values,
                UnixMillis at)
      : quote_(quote), enrolled_(enrolled), values_(values), at_(at) {}

  Result<AcceptedBoot> run(const JudgedLog* log) const {
    if (quote_.selection() != values_.selection)
      return Error{Code::kUnverified, Reason::kQuotePcrs,
                   "another PCR selection than that of the reference values"};
    std::vector<std::size_t> described;
    bool any_in_force = false;
    for (std::size_t i = 0; i < values_.references.size(); ++i) {
      const Reference& one = values_.references[i];
      if (!one.in_force(at_)) continue;
      any_in_force = true;
      if (!one.as_enrolled)
        described.push_back(i);
      else if (check_baseline(quote_, enrolled_).has_value())
        return AcceptedBoot{one.id};
    }
    if (!any_in_force) return denied(Reason::kReferenceExpired, "every reference value is past its last day");
    if (described.empty()) return denied(Reason::kBootState, "other PCRs than the enrolled ones");
    if (log == nullptr)
      return denied(Reason::kEventLogMissing,
                    "the boot can only be judged by its event log, and none was sent");
    return by_log(*log, described);
  }

 private:
  Result<AcceptedBoot> by_log(const JudgedLog& log, const std::vector<std::size_t>& described) const {
    if (log.not_replayed_) return *log.not_replayed_;
    SP_CHECK(check_replayed(log.pcrs_, quote_.selection(), quote_.pcr_digest(), quote_.pcr_values()));
    SP_ASSERT(log.of_.size() == values_.references.size());
    std::size_t nearest = described.front();
    for (const std::size_t i : described) {
      SP_ASSERT(log.of_[i].has_value());
      if (log.accepted(i)) return AcceptedBoot{values_.references[i].id};
      if (log.of_[i]->findings < log.of_[nearest]->findings) nearest = i;
    }
    const JudgedLog::Verdict& verdict = *log.of_[nearest];
    std::string what = verdict.first;
    if (verdict.findings > 1) what += ", and " + std::to_string(verdict.findings - 1) + " more";
    return denied(Reason::kBootEvent, what + " (nearest reference: " + values_.references[nearest].id + ")");
  }

  const VerifiedQuote& quote_;
  const BootBaseline& enrolled_;
  const ReferenceValues& values_;
  const UnixMillis at_;
};

Result<AcceptedBoot> appraise_boot(const VerifiedQuote& quote, const BootBaseline& enrolled,
                                   const JudgedLog* log, const ReferenceValues& values, UnixMillis at) {
  return BootAppraisal{quote, enrolled, values, at}.run(log);
}

}  // namespace sallyport::evidence
