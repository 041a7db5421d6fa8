#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "attestation/api/messages.h"
#include "attestation/record/state.h"
#include "broker/sessions/peer.h"

// A case as a peer sees it: whether he does, what he may do in it, and what he is told of it. None of this
// releases anything: an approval counts, and a grant is made, where the fold says so.
namespace sallyport::sessions {

// state_name is the state of a case as the API spells it: an open case whose time is over is "expired".
std::string_view state_name(const record::Case& one, UnixMillis now);

// opener gives the person who opened a case; empty for a revocation.
const std::string& opener(const record::Case& one);

// is_reader tells whether a person is of the policy's readers, who see everything.
bool is_reader(const record::State& state, const std::optional<PersonId>& person);

// may_see tells whether a peer takes part in a case: its opener, beneficiary, host or a possible approver; or
// a reader.
bool may_see(const record::State& state, const record::Case& one, const Peer& peer);

// may_approve_as gives the group as which a person could still approve; empty: none.
std::string may_approve_as(const record::State& state, const record::Case& one, const PersonId& person,
                           UnixMillis now);

// summary_of tells a peer of a case, without its entries.
api::CaseView summary_of(const record::State& state, const record::Case& one, const Peer& peer,
                         UnixMillis now);

}  // namespace sallyport::sessions
