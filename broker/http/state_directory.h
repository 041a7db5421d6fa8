#pragma once

#include <filesystem>

#include "attestation/base/result.h"
#include "attestation/program/descriptor.h"

namespace sallyport::http {

// A broker's state directory belongs to one process at a time, and to one role: writer, or standby of
// another. Errors of all here: kUnavailable/kStorage.

// lock_state holds the directory for this process, as long as the descriptor lives. Errors: kConflict
// (another sallyportd has it).
Result<Descriptor> lock_state(const std::filesystem::path& directory);

// require_room refuses a disk that is as good as full before the whole log is folded for nothing: the first
// commit would end the process. Errors: kStorage, with what to do.
inline constexpr std::uint64_t kRoomBytes = 16u << 20;
Status require_room(const std::filesystem::path& directory, std::uint64_t room_bytes = kRoomBytes);

// become_standby marks the directory as a standby's, which serve refuses. Errors: kConflict when it holds a
// log that was written there: its newest entries may be in nobody else's history.
Status become_standby(const std::filesystem::path& directory);

// require_writer refuses a standby's directory: somebody else may be writing that log. Errors: kConflict.
Status require_writer(const std::filesystem::path& directory);

// promote takes the mark away, durably. Errors: kConflict when there is none.
Status promote(const std::filesystem::path& directory);

}  // namespace sallyport::http
