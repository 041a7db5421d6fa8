#include "client/engineer/checkup.h"

#include <algorithm>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/evidence/tpm_firmware.h"
#include "attestation/record/appraise.h"
#include "attestation/record/canonical_json.h"
#include "attestation/record/times.h"
#include "client/terminal/next_step.h"
#include "client/terminal/render.h"

namespace sallyport::client::engineer {
namespace {

using record::json::Member;
using record::json::Value;

std::string_view state_name(Check::State state) {
  switch (state) {
    case Check::State::kOk:
      return "ok";
    case Check::State::kWrong:
      return "wrong";
    case Check::State::kNotChecked:
      return "not-checked";
  }
  SP_ASSERT(false);
}

std::string version_text(std::uint64_t version) {
  std::string text;
  for (int shift = 48; shift >= 0; shift -= 16)
    text += (text.empty() ? "" : ".") + std::to_string(version >> shift & 0xFFFF);
  return text;
}

// How a certificate lies in the TPM: TCG's header before it, or padding after it, are forms that programs
// have failed on.
std::string form_text(const crypto::Certificate& certificate, ByteView as_read) {
  if (as_read.size() == certificate.der().size()) return "plain";
  return as_read[0] == 0x30 ? "padded" : "behind TCG's header";
}

std::string apart_text(UnixMillis a, UnixMillis b) {
  return duration_text((std::max(a.get(), b.get()) - std::min(a.get(), b.get())) / 1000);
}

}  // namespace

Check well(std::string name, std::string words) {
  return {std::move(name), Check::State::kOk, std::move(words), {}, std::nullopt};
}

Check wrong(std::string name, Error error, std::string mend) {
  // A text that names a command says the next step itself.
  if (mend.empty() && error.what.find("sallyport ") == std::string::npos) mend = next_step(error.reason);
  std::string words = error.what.empty() ? std::string{reason_sentence(error.reason)} : error.what;
  return {std::move(name), Check::State::kWrong, std::move(words), std::move(mend), std::move(error)};
}

Check not_checked(std::string name, std::string why, std::string mend) {
  return {std::move(name), Check::State::kNotChecked, std::move(why), std::move(mend), std::nullopt};
}

int exit_code(std::span<const Check> checks) {
  for (const Check& check : checks)
    if (check.state == Check::State::kWrong) return exit_code_of(*check.error);
  return 0;
}

std::string text_of(std::span<const Check> checks) {
  constexpr std::size_t kNameWidth = 16;
  std::string out;
  for (const Check& check : checks) {
    std::string name = check.name;
    name.resize(std::max(name.size() + 1, kNameWidth), ' ');
    out += check.state == Check::State::kOk      ? "ok     "
           : check.state == Check::State::kWrong ? "WRONG  "
                                                 : "-      ";
    out += name + (check.state == Check::State::kNotChecked ? "not checked: " : "");
    if (check.error) out += "[" + std::string{reason_name(check.error->reason)} + "] ";
    out += printable(check.words) + "\n";
    if (!check.mend.empty()) out += "         " + printable(check.mend) + "\n";
  }
  return out;
}

std::string json_of(std::span<const Check> checks) {
  Value::Array array;
  bool all_well = true;
  for (const Check& check : checks) {
    std::vector<Member> members{
        {"name", check.name}, {"state", state_name(check.state)}, {"text", printable(check.words)}};
    if (!check.mend.empty()) members.push_back({"mend", printable(check.mend)});
    if (check.error) members.push_back({"code", reason_name(check.error->reason)});
    array.push_back(Value::object(std::move(members)));
    all_well = all_well && check.state != Check::State::kWrong;
  }
  return std::string{as_text(
      record::json::encode_canonical(Value::object({{"checks", std::move(array)},
                                                    {"exit", static_cast<std::uint64_t>(exit_code(checks))},
                                                    {"well", Value{all_well}}})))};
}

Check check_tpm_counters(const tpm::BootTime& boot) {
  const std::string name = "TPM counters";
  if (const Status counted = evidence::check_first_counters(boot.clock); !counted.has_value())
    return wrong(name, counted.error(),
                 "Start the machine anew, once: a TPM that was never reset proves nothing.");
  return well(name, "reset " + std::to_string(boot.clock.reset_count) + ", restart " +
                        std::to_string(boot.clock.restart_count) + " · firmware " +
                        version_text(boot.firmware_version));
}

Check check_endorsement(const tpm::Endorsement& endorsement, const record::LoadedPolicy* policy,
                        UnixMillis now) {
  const std::string name = "EK certificate";
  const auto certificate = evidence::parse_ek_certificate(endorsement.certificate);
  if (!certificate.has_value()) return wrong(name, certificate.error());
  const std::string form =
      std::string{crypto::algorithm_name(endorsement.form.algorithm)} + ", " +
      form_text(*certificate, endorsement.certificate) +
      (endorsement.chain.empty() ? ""
                                 : ", with " + std::to_string(endorsement.chain.size()) + " of its chain");
  if (policy == nullptr)
    return well(name, form + " · whether a root of the policy vouches for it is not known here");
  const auto verified = evidence::verify_endorsement(endorsement.certificate, endorsement.chain,
                                                     endorsement.public_area, policy->roots, now);
  if (!verified.has_value()) return wrong(name, verified.error());
  return well(name, form + " · " + verified->manufacturer + " " + verified->model +
                        ", vouched for by a root of the policy");
}

Check check_measurements(const evidence::EventLog& log, const evidence::PcrSelection& selection,
                         std::span<const Digest256> pcrs) {
  const std::string name = "measurements";
  const auto verified = evidence::verify_event_log(log, selection, evidence::pcr_digest(pcrs), pcrs);
  if (!verified.has_value())
    return wrong(name, verified.error(),
                 verified.error().reason == Reason::kEventLogReplay
                     ? "Is event_log in config.toml a copy of an earlier boot? Then have it copied anew. "
                       "Else start the "
                       "machine anew, and tell your security team if it comes again."
                     : "");
  return well(name, "the log comes to the TPM's PCRs");
}

Check check_clock(UnixMillis now, UnixMillis cosigned, UnixMillis broker) {
  const std::string name = "clock";
  const std::string mend = "Set this machine's clock: timedatectl shows it, and whether it is synchronised.";
  if (record::within_skew(now, cosigned))
    return well(name, apart_text(now, cosigned) + " from the newest cosigned checkpoint");
  const std::string words = apart_text(now, cosigned) + (now < cosigned ? " behind" : " ahead of") +
                            " the newest cosigned checkpoint";
  // A checkpoint from the future is wrong by several witnesses' clocks. One from the past may be the last
  // one of a log that stands still; then the broker's clock is as far from it as ours.
  if (now > cosigned && record::within_skew(now, broker))
    return wrong(name, Error{Code::kUnavailable, Reason::kLogQuorum,
                             words + ", and so is the broker's: the log stands still"});
  return wrong(name, Error{Code::kUnverified, Reason::kStale, words}, mend);
}

Check check_enrolment(const record::ControlState& control, const DeviceId& device, ByteView ak) {
  const std::string name = "enrolment";
  const record::Device* known = control.find_device(device);
  if (known == nullptr)
    return wrong(name, Error{Code::kDenied, Reason::kDeviceUnknown,
                             "this machine is not enrolled, as of leaf " + grouped(control.size().get())});
  const auto out_of_use = [&](const std::string& words, std::string mend) {
    return wrong(name, Error{Code::kDenied, Reason::kDeviceRevoked, known->name + words}, std::move(mend));
  };
  const std::string gone = "It never comes back: work from another machine";
  if (const auto leaf = control.find_retired(device))
    return out_of_use(" is retired, since leaf " + grouped(leaf->get()),
                      "Ask to have it enrolled again: sallyport enroll --again.");
  if (const auto leaf = control.find_lost(device))
    return out_of_use(" is lost, since leaf " + grouped(leaf->get()),
                      gone + ", and tell your security team that this one was found.");
  if (control.is_revoked(device)) return out_of_use(" is revoked", gone + ".");
  if (!equal(known->ak, ak))
    return wrong(name, Error{Code::kUnverified, Reason::kQuoteSignature,
                             known->name + " is enrolled with another attestation key"});
  return well(name,
              known->name + " · region " + known->region.get() + " · device " + to_hex(device).substr(0, 16));
}

Check check_since_enrolment(const record::Device& device, const evidence::ClockInfo& clock) {
  const std::string name = "since enrolment";
  const evidence::ClockInfo& then = device.clock;
  const auto counted = [](const evidence::ClockInfo& at) {
    return "reset " + std::to_string(at.reset_count) + ", restart " + std::to_string(at.restart_count);
  };
  const std::string both = counted(clock) + ", and the enrolment of " + device.name + " " + counted(then);
  if (const Status gone_on = record::check_since_enrolment(then, clock); !gone_on.has_value()) {
    Error error = gone_on.error();
    error.what += ": it is at " + both;
    return wrong(name, std::move(error),
                 "Was the TPM cleared, or a virtual one set back? Then have the machine enrolled again: "
                 "sallyport enroll --again. Else tell your security team.");
  }
  return well(name, "the TPM has gone on: it is at " + both);
}

Check check_firmware(std::string_view maker, std::uint64_t firmware_version, crypto::KeyAlgorithm ak,
                     UnixMillis now) {
  const std::string name = "TPM firmware";
  const Status good = evidence::check_tpm_firmware(maker, firmware_version, ak, now);
  if (!good.has_value()) return wrong(name, good.error());
  return well(name, version_text(firmware_version) + (maker.empty() ? "" : " of " + std::string{maker}) +
                        " · no weakness is known that gives its keys away");
}

Check check_boot(const evidence::VerifiedQuote& quote, const record::Device* device,
                 const evidence::EventLog* log, const record::LoadedPolicy& policy, UnixMillis now) {
  const std::string name = "boot";
  const auto& references = policy.references.references;
  if (device == nullptr && std::ranges::all_of(references, &evidence::Reference::as_enrolled))
    return not_checked(name, "the policy accepts the enrolled boot alone, and this machine is not enrolled");
  // Of a machine that is not enrolled, no PCRs are recorded that could be these.
  const evidence::BootBaseline none{quote.selection(), Digest256{}};
  std::optional<evidence::JudgedLog> judged;
  if (log != nullptr) judged = evidence::judge_log(*log, policy.references);
  const auto accepted = evidence::appraise_boot(quote, device != nullptr ? device->baseline : none,
                                                judged ? &*judged : nullptr, policy.references, now);
  if (!accepted.has_value()) return wrong(name, accepted.error());
  return well(name, "accepted by policy version " + std::to_string(policy.policy.version) + ": " +
                        accepted->reference);
}

Check check_files(const evidence::ImaList& list, const Digest256& pcr10, const record::LoadedPolicy& policy) {
  const std::string name = "files";
  if (!policy.references.ima) return not_checked(name, "the policy in force does not ask what was measured");
  const auto judge = [&]() -> Result<evidence::JudgedIma> {
    const auto start = evidence::ImaPosition::start(evidence::LogAlgorithm::kSha256);
    SP_TRY(const evidence::ReplayedIma to_it, evidence::replay_ima_to(list, start, view(pcr10)));
    SP_TRY(const auto cut, evidence::cut_ima_list(list, to_it.entries().size()));
    std::vector<evidence::ImaPart> parts;
    for (const ByteView part : cut) parts.push_back({crypto::sha256(part), part});
    return evidence::judge_ima_parts(parts, pcr10, *policy.references.ima);
  };
  const auto judged = judge();
  if (!judged.has_value()) return wrong(name, judged.error());
  return well(name, ima_text(*judged) + " · each expected");
}

}  // namespace sallyport::client::engineer
