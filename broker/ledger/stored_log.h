#pragma once

#include <functional>
#include <vector>

#include "attestation/ledger/compact_range.h"
#include "attestation/record/state.h"
#include "broker/store/store.h"

// What the writer of a log and its standby do alike with a store.
namespace sallyport::ledger_service {

enum class Attachments : std::uint8_t { kWith, kWithout };

// with_blobs gives an entry as it was stored with those of its blobs that the store has.
Result<record::Entry> with_blobs(store::Store& store, record::Entry entry,
                                 Attachments attachments = Attachments::kWith);

// bytes_of tells how much memory an entry takes.
std::size_t bytes_of(const record::Entry& entry);

// fold_store replays the whole store through prepare(), and compares roots: nothing on disk is believed.
// Other threads open the entries and verify their signatures ahead, on all cores; until it is done nobody
// else may look at `state`. `folding` is told of each entry that is about to be committed, null where it is
// erased. That bodies are missing is for the caller to judge (record::check_complete). Errors:
// kUnavailable/kStorage (damaged), why an entry does not fold, or those of `folding`.
using Folding = std::function<Status(const ledger::Leaf&, const record::OpenedEntry*)>;
Status fold_store(store::Store& store, record::State& state, const Folding& folding);

// check_folded compares what was folded with the root and the subtrees that are stored. Errors: kStorage.
Status check_folded(store::Store& store, const record::State& state);

// root_at gives the root that the stored tree had at `size`, which is at most its own.
Result<Digest256> root_at(store::Store& store, TreeSize size);

// kept_subtrees gives the subtrees that these entries complete, of those that a store keeps.
std::vector<store::Subtree> kept_subtrees(ledger::CompactRange range,
                                          const std::vector<record::Entry>& entries);

// stop_for_ever ends the process where going on could sign or tell something that is not on disk. The next
// start reads what is there.
[[noreturn]] void stop_for_ever(std::string_view step, const Error& error);

// What an operator does about a log that takes no entries; part of the errors that say so.
inline constexpr std::string_view kSeeRunbook =
    "what to do: broker/ledger/README.md, \"When the log takes no entries\"";

}  // namespace sallyport::ledger_service
