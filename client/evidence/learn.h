#pragma once

#include <span>
#include <string>

#include "attestation/evidence/event_log.h"
#include "attestation/evidence/reference_values.h"

namespace sallyport::client::evidence_tools {

// NamedLog is an event log and how people call it.
struct NamedLog {
  std::string name;
  evidence::EventLog log;
};

// learn_reference describes the boots that these logs show as one reference: whatever is measured at a place
// (a PCR, at one side of its separator) is expected there.
//   - What every log has with one digest is an event of its own.
//   - Of the others, those of one kind (type, and name of the variable or path of the image) that stand at
//     the same place of the row are one event with several digests.
//   - Required is what every log has; it repeats when a log has it more than once.
//   Proves:         judge_boot accepts every one of these logs by this reference, also when it is written and
//                   read again.
//   Does not prove: that these boots were good ones, or were at all (a quote could): that is for people to
//                   review. A boot that takes one event from this log and another from that one is accepted
//                   too.
//   Errors:         with the log's name: kUnverified (kEventLogBank: an event without a SHA-256 digest);
//                   kMalformed (kMalformed: the logs differ in Secure Boot, or one is of a boot that no
//                   reference can accept, such as one without a separator; kReferenceInvalid: more than a
//                   document can say).   Pure.
Result<evidence::Reference> learn_reference(std::span<const NamedLog> logs,
                                            const evidence::PcrSelection& selection, std::uint32_t unjudged,
                                            const std::string& id);

}  // namespace sallyport::client::evidence_tools
