#include "attestation/evidence/appraisal.h"

#include <algorithm>
#include <array>
#include <map>
#include <span>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/evidence/efi.h"

namespace sallyport::evidence {
namespace {

constexpr unsigned kSecureBootPcr = 7;

std::string name_of(const LogEvent& event) {
  return "event " + std::to_string(event.number) + " of PCR " + std::to_string(event.pcr) + " (" +
         describe(event) + ", sha256:" + to_hex(sha256_of(event)) + ")";
}

// MeasuredEvents are a log's events of quoted PCRs and what they say to every reference alike: however many
// references there are, it is worked out once. They also hold what is left of a judgement's work.
class MeasuredEvents {
 public:
  struct One {
    const LogEvent* event;
    Digest256 digest;
    std::uint8_t pcr;
    bool separator;
    std::optional<bool> secure_boot;
    std::uint32_t text;  // its number, once asked for
  };

  MeasuredEvents(const EventLog& log, const PcrSelection& selection) : selection_(selection) {
    for (const LogEvent& event : log.events()) {
      if (!event.extends() || event.pcr > 23 || !selection.contains(event.pcr)) continue;
      const Digest256 digest = sha256_of(event);
      all_.push_back({&event, digest, static_cast<std::uint8_t>(event.pcr),
                      event.pcr < kSeparatedPcrs && is_separator(digest), measured_secure_boot(event),
                      kNotAsked});
    }
  }

  std::span<One> all() { return all_; }
  const PcrSelection& selection() const { return selection_; }

  // text_of gives the number of the text that an event measured, the same for the same text.
  std::optional<std::uint32_t> text_of(One& one) {
    if (one.text == kNotAsked) {
      one.text = kNone;
      if (std::optional<std::string> text = measured_text(*one.event)) {
        const auto [at, added] =
            numbers_.try_emplace(*std::move(text), static_cast<std::uint32_t>(texts_.size()));
        if (added) texts_.push_back(&at->first);
        one.text = at->second;
      }
    }
    return one.text == kNone ? std::nullopt : std::optional{one.text};
  }
  std::string_view text(std::uint32_t number) const { return *texts_[number]; }

  const std::string& name(const One& one) {
    std::string& name = names_[one.event->number];
    if (name.empty()) name = name_of(*one.event);
    return name;
  }

  // take_work tells whether there is work left for one more match of a text. None is, once there was too
  // little: what a judgement comes to does not hang on which texts are short.
  bool take_work(std::uint32_t text) {
    const std::size_t work = texts_[text]->size() + kWorkOfAMatch;
    const bool enough = work <= work_left_;
    work_left_ = enough ? work_left_ - work : 0;
    return enough;
  }

 private:
  static constexpr std::uint32_t kNotAsked = 0xFFFFFFFF, kNone = 0xFFFFFFFE;
  const PcrSelection& selection_;
  std::vector<One> all_;
  std::map<std::string, std::uint32_t> numbers_;  // ordered: whoever wrote the log chose the texts
  std::vector<const std::string*> texts_;         // keys of numbers_
  std::map<std::uint32_t, std::string> names_;
  std::size_t work_left_ = kMaxMatchingWork;
};

class Judge {
 public:
  // Only the first `max_worded` findings are given words.
  Judge(MeasuredEvents& events, const Reference& reference, std::size_t max_findings, std::size_t max_worded)
      : events_(events),
        reference_(reference),
        max_findings_(max_findings),
        max_worded_(max_worded),
        seen_(reference.events.size(), 0) {
    for (std::size_t i = 0; i < reference.events.size(); ++i) {
      const ExpectedEvent& expected = reference.events[i];
      if (expected.digests.empty()) texts_at(expected.pcr, expected.after_separator).patterns.push_back(i);
    }
  }

  std::vector<BootFinding> run() {
    for (MeasuredEvents::One& one : events_.all()) {
      note_secure_boot(one);
      if (reference_.judges(one.pcr)) judge(one);
      if (full()) return std::move(findings_);
    }
    check_separators();
    check_secure_boot();
    check_required();
    return std::move(findings_);
  }

 private:
  // What is expected at one place by its text, and what was found of each text that was there.
  struct Texts {
    std::vector<std::size_t> patterns;
    std::vector<std::size_t> found;  // by the text's number
  };
  static constexpr std::size_t kNotLookedFor = static_cast<std::size_t>(-1), kNotFound = kNotLookedFor - 1;

  Texts& texts_at(std::uint8_t pcr, bool after) { return texts_at_[std::size_t{2} * pcr + (after ? 1 : 0)]; }
  bool full() const { return findings_.size() >= max_findings_; }
  template <class Words>
  void find(BootFinding::Kind kind, std::uint8_t pcr, std::optional<std::uint32_t> event, Words&& words) {
    if (!full())
      findings_.push_back({kind, pcr, event, findings_.size() < max_worded_ ? words() : std::string{}});
  }

  void judge(MeasuredEvents::One& one) {
    const std::uint8_t pcr = one.pcr;
    if (one.separator) {
      if (++separators_[pcr] == 2)
        find(BootFinding::Kind::kSeparator, pcr, one.event->number, [&] {
          return "a second separator, " + events_.name(one) +
                 ": what follows was not measured by the firmware";
        });
      return;
    }
    const bool after = pcr < kSeparatedPcrs && separators_[pcr] != 0;
    too_much_work_ = false;
    std::optional<std::size_t> at = reference_.find(pcr, after, one.digest);
    if (!at) at = find_text(one, after);
    if (!at) {
      find(BootFinding::Kind::kUnexpected, pcr, one.event->number, [&] {
        return events_.name(one) +
               (too_much_work_ ? " cannot be looked for: the texts of this log and the patterns are too many"
                               : " is not expected");
      });
    } else if (seen_[*at]++ != 0 && !reference_.events[*at].repeats) {
      find(BootFinding::Kind::kRepeated, pcr, one.event->number,
           [&] { return events_.name(one) + " is expected once, and is there again"; });
    }
  }

  std::optional<std::size_t> find_text(MeasuredEvents::One& one, bool after) {
    Texts& here = texts_at(one.pcr, after);
    if (here.patterns.empty()) return std::nullopt;
    const std::optional<std::uint32_t> text = events_.text_of(one);
    if (!text) return std::nullopt;
    if (here.found.size() <= *text) here.found.resize(*text + 1, kNotLookedFor);
    std::size_t& found = here.found[*text];
    if (found == kNotLookedFor) found = look_for(*text, here.patterns);
    return found == kNotFound ? std::nullopt : std::optional{found};
  }

  std::size_t look_for(std::uint32_t text, const std::vector<std::size_t>& patterns) {
    for (const std::size_t i : patterns) {
      too_much_work_ = !events_.take_work(text);
      if (too_much_work_) return kNotFound;
      if (matches(reference_.events[i].pattern, events_.text(text))) return i;
    }
    return kNotFound;
  }

  void note_secure_boot(const MeasuredEvents::One& one) {
    if (separators_[kSecureBootPcr] != 0) return;  // only the firmware measures before it
    if (!one.secure_boot) return;
    if (secure_boot_)
      find(BootFinding::Kind::kSecureBoot, kSecureBootPcr, one.event->number,
           [&] { return "Secure Boot is measured twice, again by " + events_.name(one); });
    secure_boot_ = one.secure_boot;
  }

  void check_separators() {
    for (std::uint8_t pcr = 0; pcr < kSeparatedPcrs; ++pcr)
      if (events_.selection().contains(pcr) && reference_.judges(pcr) && separators_[pcr] == 0)
        find(BootFinding::Kind::kSeparator, pcr, std::nullopt, [&] {
          return "PCR " + std::to_string(pcr) + " has no separator: the firmware never ended its part";
        });
  }

  void check_secure_boot() {
    if (!secure_boot_)
      find(BootFinding::Kind::kSecureBoot, kSecureBootPcr, std::nullopt,
           [] { return std::string{"the firmware did not measure whether Secure Boot is on"}; });
    else if (*secure_boot_ != reference_.secure_boot)
      find(BootFinding::Kind::kSecureBoot, kSecureBootPcr, std::nullopt, [&] {
        return std::string{*secure_boot_ ? "Secure Boot is on, and the reference says that it is off"
                                         : "Secure Boot is off"};
      });
  }

  void check_required() {
    for (std::size_t i = 0; i < seen_.size(); ++i) {
      const ExpectedEvent& expected = reference_.events[i];
      if (!expected.required || seen_[i] != 0) continue;
      find(BootFinding::Kind::kMissing, expected.pcr, std::nullopt, [&] {
        const std::string named = !expected.what.empty()     ? expected.what
                                  : expected.digests.empty() ? expected.pattern
                                                             : "sha256:" + to_hex(expected.digests.front());
        return "PCR " + std::to_string(expected.pcr) + " lacks what the reference requires: " + named;
      });
    }
  }

  MeasuredEvents& events_;
  const Reference& reference_;
  const std::size_t max_findings_, max_worded_;
  std::vector<std::uint32_t> seen_;  // how often each expected event was there
  std::array<Texts, 48> texts_at_{};
  std::array<std::uint32_t, kSeparatedPcrs> separators_{};
  std::optional<bool> secure_boot_;
  bool too_much_work_ = false;  // to look for the event that is judged
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
  if (event.pcr != kSecureBootPcr || !event.extends()) return std::nullopt;
  const auto variable = parse_efi_variable(event.data);
  if (!variable || variable->vendor != kEfiGlobalVariable || variable->name != "SecureBoot")
    return std::nullopt;
  if (!data_hashes_to_digest(event)) return std::nullopt;  // last: PCR 7 has lists of revoked images, too
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
  MeasuredEvents events{log, selection};
  return Judge{events, reference, max_findings, max_findings}.run();
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
  MeasuredEvents events{log, values.selection};
  for (std::size_t i = 0; i < values.references.size(); ++i) {
    if (values.references[i].as_enrolled) continue;
    std::vector<BootFinding> findings = Judge{events, values.references[i], kMaxFindings, 1}.run();
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
