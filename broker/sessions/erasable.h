#pragma once

#include <vector>

#include "attestation/record/state.h"
#include "broker/store/store.h"

// Which cases can be erased: what only the stored log knows, for the state forgets cases once they are over.
namespace sallyport::sessions {

// check_erasable checks, before people are asked to sign it, that an erasure names access cases which were
// opened before it says and whose bodies are here. Reads all leaves. Errors: kErasureCase, kErased; those of
// the store.
Status check_erasable(store::Store& store, const record::ErasureProposed& proposed);

// erasable_cases gives the oldest access cases opened before `before` whose bodies are here and which are not
// held, as many as an erasure may name, ascending.
Result<std::vector<CaseId>> erasable_cases(store::Store& store, const record::ControlState& control,
                                           UnixMillis before);

}  // namespace sallyport::sessions
