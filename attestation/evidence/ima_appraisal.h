#pragma once

#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "attestation/evidence/ima.h"

// What a policy says of the files that a machine may measure, and the judgement of a list that comes with a
// request in parts.
namespace sallyport::evidence {

inline constexpr std::size_t kMaxImaParts = 32;
inline constexpr std::size_t kMaxImaPartBytes = 256 * 1024;  // so a list of a request has 8 MiB at most

// ImaReference says which measurements are expected. Reference values that have one want a list with every
// request.
class ImaReference {
 public:
  struct Terms {
    std::vector<crypto::PublicKey> keys;  // that sign files
    std::string files;                    // lines of an ImaAllowList; may be empty
    bool violations = false;              // may be there, although nobody knows what they are of
    bool padded_sha1 = false;             // lists may rest on SHA-1: of kernels before 5.8 (ImaExtension)
    friend bool operator==(const Terms&, const Terms&) = default;
  };

  // make checks the terms: there is a key or a file, and each is one that ImaKeys and ImaAllowList take.
  // Errors: kMalformed, saying which.
  static Result<ImaReference> make(Terms terms);

  const Terms& terms() const { return made_->terms; }
  const ImaRules& rules() const { return made_->rules; }
  std::size_t files() const { return rules().allowed.size(); }
  // SHA-256 of the terms: two that have one expect the same.
  const Digest256& id() const { return made_->id; }
  friend bool operator==(const ImaReference& a, const ImaReference& b) { return a.id() == b.id(); }

 private:
  struct Made {
    Terms terms;
    ImaRules rules;
    Digest256 id;
  };
  explicit ImaReference(std::shared_ptr<const Made> made) : made_(std::move(made)) {}
  std::shared_ptr<const Made> made_;
};

// cut_ima_list cuts the first `entries` of a list into parts, each of as many whole entries as fit into
// kMaxImaPartBytes. As a list grows within a boot, all its parts but the last stay what they are.
//   Errors: kMalformed (kImaForm), when it takes more than kMaxImaParts.   Pure.
Result<std::vector<ByteView>> cut_ima_list(const ImaList& list, std::size_t entries);

struct ImaPart {
  Digest256 sha256;  // of the bytes: checked here unless a memo knows the part
  ByteView bytes;
};

// JudgedIma is a list that was judged and found good. Only ImaJudge makes one.
class JudgedIma {
 public:
  std::uint64_t entries() const { return whole_.position.entries; }
  ImaExtension extension() const { return *whole_.position.extension; }
  ByteView pcr10() const { return whole_.position.pcr10(); }
  const ImaTally& tally() const { return whole_.tally; }

 private:
  friend class ImaMemo;
  friend class ImaJudge;
  // A beginning of lists, of whole parts: where it comes to, and what was in it.
  struct Beginning {
    Digest256 id;
    ImaPosition position;
    ImaTally tally;
  };
  JudgedIma(const Beginning& without_last, const Beginning& whole)
      : without_last_(without_last), whole_(whole) {}
  Beginning without_last_;  // the parts that a list which grows keeps; of no entries where that is not known
  Beginning whole_;
};

// ImaMemo remembers how far lists were judged, so that one that grew is judged from its last part on. What it
// says of a beginning holds of these very bytes, under these very terms, whichever machine sends them: so it
// changes how long a judgement takes and never what it is. Nothing gets in that was not judged. It keeps the
// newest kMost beginnings, some 300 bytes each; and why lists were refused that `judge` was given, so that
// whoever judges with a lock held checks none of their signatures: these are handed on to no other memo. Not
// for several threads while something is added.
class ImaMemo {
 public:
  static constexpr std::size_t kMost = 1024;
  // judge is judge_ima_parts, and remembers what came of it.
  void judge(std::span<const ImaPart> parts, const Digest256& pcr10, const ImaReference& reference);
  void add(const JudgedIma& judged);
  void add(const ImaMemo& other);
  // take_over remembers here the longest beginning of a list, by the digests of its parts, that `other` knows
  // under these terms.
  void take_over(const ImaMemo& other, std::span<const Digest256> parts, const ImaReference& reference);
  bool knows(const JudgedIma& judged) const { return beginnings_.contains(judged.whole_.id); }
  std::size_t size() const { return beginnings_.size(); }
  std::size_t refusals() const { return refusals_.size(); }

 private:
  friend class ImaJudge;
  void add(const JudgedIma::Beginning& beginning);
  std::map<Digest256, JudgedIma::Beginning> beginnings_;
  std::deque<Digest256> order_;          // the oldest first
  std::map<Digest256, Error> refusals_;  // of whole lists that have an entry which is not expected
};

// judge_ima_parts judges the whole list of a boot, which comes in parts, by what PCR 10 is said to be.
//   Proves:         from the start of a boot, exactly these measurements come to `pcr10`, in their order, and
//                   each is expected: it is in the allow list, signed by one of the keys, or a violation
//                   where these may be. There is at least one.
//   Does not prove: that a TPM has this value (appraise_ima_parts); what verify_ima_list does not; that the
//                   kernel measures what it should: by what booted (appraise_boot). Terms with padded_sha1:
//                   that no other files of the same SHA-1 were measured.
//   Errors:         kDenied (kImaMissing): nothing was measured. kMalformed (kImaForm): a part is no list of
//                   whole entries, or empty. kUnverified (kImaReplay): the parts do not come to `pcr10`; also
//                   where they have more. kDenied (kImaForm): they come to it by SHA-1 only, and the terms do
//                   not have that. kUnverified (kImaUnexpected): as appraise_ima.
//   Pure; per entry some four hashes and at most one signature check, but none for what `memo` knows.
Result<JudgedIma> judge_ima_parts(std::span<const ImaPart> parts, const Digest256& pcr10,
                                  const ImaReference& reference, const ImaMemo* memo = nullptr);

// appraise_ima_parts is judge_ima_parts by the value in a quote of PCR 10: a TPM has it.
// Errors: its; kUnverified (kImaReplay): the quote comes without the value.
Result<JudgedIma> appraise_ima_parts(std::span<const ImaPart> parts, const VerifiedQuote& quote,
                                     const ImaReference& reference, const ImaMemo* memo = nullptr);

}  // namespace sallyport::evidence
