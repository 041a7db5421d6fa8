#pragma once

#include "attestation/evidence/binding.h"
#include "attestation/ledger/checkpoint.h"

// What quotes and certifications of a case are bound to (README.md, "Evidence of each kind").
namespace sallyport::record {

// note_text_digest is what a binding holds as its note: SHA-256 of the three lines origin, size, root.
// Cosignatures do not count, so a statement names its note by size and root.
Digest256 note_text_digest(const Origin& origin, TreeSize size, const Digest256& root);

// no_note is SHA-256 of nothing, for kinds that have no note.
Digest256 no_note();

// activation_nonce is SHA-256("sallyport/activate/v1" 00 ‖ the cosigned note's bytes): the broker cannot have
// known it before the checkpoint existed.
Nonce activation_nonce(ByteView note);

// activation_binding is what the quote of a grant signs. `request` is the digest of the case's request
// statement.
evidence::Binding activation_binding(const Origin& origin, const CaseId& case_id, const Digest256& request,
                                     ByteView note, const ledger::Checkpoint& checkpoint);

}  // namespace sallyport::record
