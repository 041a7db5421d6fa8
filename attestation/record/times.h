#pragma once

#include <chrono>

#include "attestation/base/strong.h"

// The times of README.md, "Times", and the little arithmetic that they need.
namespace sallyport::record {

using std::chrono::milliseconds;

inline constexpr milliseconds kMaxTimeSkew = std::chrono::minutes{5};  // a statement's time from its leaf's
inline constexpr milliseconds kAccessLife = std::chrono::hours{1};     // of a request, and of its approvals
inline constexpr milliseconds kEnrolmentLife = std::chrono::hours{24};
inline constexpr milliseconds kPolicyLife = std::chrono::hours{72};
inline constexpr milliseconds kNoteAge = std::chrono::seconds{120};  // of a request's or grant's note
inline constexpr milliseconds kMaxLeafLead =
    std::chrono::seconds{60};                                        // a leaf after the cosignatures over it
inline constexpr milliseconds kNoteSkew = std::chrono::seconds{30};  // a cosignature after the leaf
// An approver's note: as old as a request's may be, before a statement as old as it may be.
inline constexpr milliseconds kApprovalNoteAge = kMaxTimeSkew + kNoteAge;
inline constexpr milliseconds kIdMemory = std::chrono::hours{48};    // a case's id, after its life
inline constexpr milliseconds kSnapshotGap = std::chrono::hours{1};  // between snapshot leaves, at least
inline const UnixMillis kLastTime{std::uint64_t{1} << 53};           // no leaf is later

inline UnixMillis operator+(UnixMillis at, milliseconds span) {
  return UnixMillis{at.get() + static_cast<std::uint64_t>(span.count())};
}

// within_skew tells whether two times are at most `skew` apart.
inline bool within_skew(UnixMillis a, UnixMillis b, milliseconds skew = kMaxTimeSkew) {
  const std::uint64_t apart = a.get() > b.get() ? a.get() - b.get() : b.get() - a.get();
  return apart <= static_cast<std::uint64_t>(skew.count());
}

}  // namespace sallyport::record
