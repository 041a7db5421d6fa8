#include "attestation/evidence/ima_appraisal.h"

#include <algorithm>

#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"

namespace sallyport::evidence {
namespace {

constexpr std::string_view kTermsLabel{"sallyport/ima-terms/v1\0", 23};
constexpr std::string_view kBeginningLabel{"sallyport/ima-beginning/v1\0", 27};

Error refused(Code code, Reason reason, std::string what) {
  return Error{code, reason, std::move(what)};
}

Digest256 id_of(const ImaReference::Terms& terms) {
  Writer out;
  out.raw(kTermsLabel).u8(terms.violations ? 1 : 0).u8(terms.padded_sha1 ? 1 : 0);
  out.u32(static_cast<std::uint32_t>(terms.keys.size()));
  for (const crypto::PublicKey& key : terms.keys) out.prefixed32(key.spki());
  out.prefixed32(terms.files);
  return crypto::sha256(out.bytes());
}

}  // namespace

Result<ImaReference> ImaReference::make(Terms terms) {
  ImaRules rules;
  SP_TRY(rules.allowed, ImaAllowList::parse(terms.files));
  for (const crypto::PublicKey& key : terms.keys) SP_CHECK(rules.keys.add(key));
  if (terms.keys.empty() && rules.allowed.size() == 0)
    return Error{Code::kMalformed, Reason::kImaForm, "neither a key nor a file is expected"};
  rules.violations_allowed = terms.violations;
  const Digest256 id = id_of(terms);
  return ImaReference{std::make_shared<const Made>(Made{std::move(terms), std::move(rules), id})};
}

Result<std::vector<ByteView>> cut_ima_list(const ImaList& list, std::size_t entries) {
  std::vector<ByteView> parts;
  std::size_t begin = 0, end = 0;  // of the part that is being filled
  const auto cut = [&] {
    if (end != begin) parts.push_back(list.bytes().subspan(begin, end - begin));
    begin = end;
  };
  for (const ImaEntry& entry : list.entries().first(entries)) {
    if (entry.end - begin > kMaxImaPartBytes) cut();
    end = entry.end;
  }
  cut();
  if (parts.size() > kMaxImaParts)
    return refused(Code::kMalformed, Reason::kImaForm,
                   "the list is longer than " + std::to_string(kMaxImaParts) + " parts of 256 KiB");
  return parts;
}

void ImaMemo::add(const JudgedIma::Beginning& beginning) {
  if (beginning.position.entries == 0 || !beginnings_.emplace(beginning.id, beginning).second) return;
  order_.push_back(beginning.id);
  if (order_.size() <= kMost) return;
  beginnings_.erase(order_.front());
  order_.pop_front();
}

void ImaMemo::add(const JudgedIma& judged) {
  add(judged.without_last_);
  add(judged.whole_);
}

void ImaMemo::add(const ImaMemo& other) {
  for (const Digest256& id : other.order_) add(other.beginnings_.at(id));
}

namespace {

// beginnings gives the ids of the first 0, 1, … parts of a list, extended so, under these terms.
std::vector<Digest256> beginnings(std::span<const Digest256> parts, const ImaReference& reference,
                                  ImaExtension extension) {
  Writer nothing;
  nothing.raw(kBeginningLabel).raw(view(reference.id())).u8(extension == ImaExtension::kOwnHash ? 0 : 1);
  std::vector<Digest256> ids{crypto::sha256(nothing.bytes())};
  for (const Digest256& part : parts) ids.push_back(crypto::sha256({view(ids.back()), view(part)}));
  return ids;
}

}  // namespace

void ImaMemo::take_over(const ImaMemo& other, std::span<const Digest256> parts,
                        const ImaReference& reference) {
  for (const ImaExtension extension : {ImaExtension::kOwnHash, ImaExtension::kPaddedSha1}) {
    const std::vector<Digest256> ids = beginnings(parts, reference, extension);
    for (std::size_t count = parts.size(); count != 0; --count)
      if (const auto found = other.beginnings_.find(ids[count]); found != other.beginnings_.end()) {
        add(found->second);
        break;
      }
  }
}

// ImaJudge judges one list in one of the two ways of extending. What is remembered of the one says nothing of
// the other, so both are tried whatever the memo knows.
class ImaJudge {
 public:
  ImaJudge(std::span<const ImaPart> parts, ByteView pcr10, const ImaReference& reference, const ImaMemo* memo)
      : parts_(parts), pcr10_(pcr10), reference_(reference), memo_(memo), lists_(parts.size()) {}

  Result<JudgedIma> run() {
    if (auto by_own = judge(ImaExtension::kOwnHash);
        by_own.has_value() || by_own.error().reason != Reason::kImaReplay)
      return by_own;
    return judge(ImaExtension::kPaddedSha1);
  }
  // refused_list is the list's id, when an entry of it is not expected.
  const std::optional<Digest256>& refused_list() const { return refused_list_; }

 private:
  using Beginning = JudgedIma::Beginning;

  Result<JudgedIma> judge(ImaExtension extension) {
    std::vector<Digest256> digests;
    for (const ImaPart& part : parts_) digests.push_back(part.sha256);
    const std::vector<Digest256> ids = beginnings(digests, reference_, extension);
    std::size_t known = 0;
    Beginning at{ids[0], ImaPosition::start(LogAlgorithm::kSha256), {}};
    for (std::size_t count = parts_.size(); count != 0 && memo_ != nullptr && known == 0; --count)
      if (const auto found = memo_->beginnings_.find(ids[count]); found != memo_->beginnings_.end()) {
        known = count;
        at = found->second;
      }

    ImaPosition position = at.position;
    std::vector<ReplayedIma> replayed;
    for (std::size_t i = known; i < parts_.size(); ++i) {
      SP_TRY(const ImaList* list, parsed(i));
      SP_TRY(const ReplayedIma part, replay_ima(*list, position, extension));
      position = part.position();
      replayed.push_back(part);
    }
    if (!equal(position.pcr10(), pcr10_))
      return refused(Code::kUnverified, Reason::kImaReplay,
                     "the " + std::to_string(position.entries) +
                         " entries of the list do not come to the quoted PCR 10");
    if (extension == ImaExtension::kPaddedSha1 && !reference_.terms().padded_sha1)
      return refused(Code::kDenied, Reason::kImaForm,
                     "the machine's kernel extends PCR 10 with SHA-1 (Linux before 5.8), which the reference "
                     "values do not take");

    if (memo_ != nullptr)
      if (const auto found = memo_->refusals_.find(ids.back()); found != memo_->refusals_.end())
        return found->second;

    Beginning without_last{ids[0], ImaPosition::start(LogAlgorithm::kSha256), {}};
    for (std::size_t i = known; i < parts_.size(); ++i) {
      const ReplayedIma& part = replayed[i - known];
      if (i + 1 == parts_.size()) without_last = at;
      auto tally = appraise_ima(part, reference_.rules());
      if (!tally.has_value()) {
        refused_list_ = ids.back();
        return std::move(tally).error();
      }
      at.id = ids[i + 1];
      at.position = part.position();
      at.tally += *tally;
    }
    return JudgedIma{without_last, at};
  }

  Result<const ImaList*> parsed(std::size_t index) {
    std::optional<ImaList>& list = lists_[index];
    if (!list) {
      // What is remembered of a digest is of the bytes that have it.
      if (crypto::sha256(parts_[index].bytes) != parts_[index].sha256)
        return refused(Code::kMalformed, Reason::kImaForm,
                       "part " + std::to_string(index + 1) + " is not of its digest");
      auto parse = ImaList::parse(to_bytes(parts_[index].bytes));
      if (!parse.has_value())
        return refused(Code::kMalformed, Reason::kImaForm,
                       "part " + std::to_string(index + 1) + ", " + parse.error().what);
      if (parse->entries().empty())
        return refused(Code::kMalformed, Reason::kImaForm, "part " + std::to_string(index + 1) + " is empty");
      list = std::move(*parse);
    }
    return &*list;
  }

  std::span<const ImaPart> parts_;
  ByteView pcr10_;
  const ImaReference& reference_;
  const ImaMemo* memo_;
  std::vector<std::optional<ImaList>> lists_;
  std::optional<Digest256> refused_list_;
};

void ImaMemo::judge(std::span<const ImaPart> parts, const Digest256& pcr10, const ImaReference& reference) {
  if (parts.empty()) return;
  ImaJudge one{parts, view(pcr10), reference, this};
  const auto judged = one.run();
  if (judged.has_value())
    add(*judged);
  else if (one.refused_list())
    refusals_.emplace(*one.refused_list(), judged.error());
}

Result<JudgedIma> judge_ima_parts(std::span<const ImaPart> parts, const Digest256& pcr10,
                                  const ImaReference& reference, const ImaMemo* memo) {
  if (parts.empty())
    return refused(Code::kDenied, Reason::kImaMissing,
                   "nothing was measured: IMA is off, or has no policy, in the machine's kernel");
  return ImaJudge{parts, view(pcr10), reference, memo}.run();
}

Result<JudgedIma> appraise_ima_parts(std::span<const ImaPart> parts, const VerifiedQuote& quote,
                                     const ImaReference& reference, const ImaMemo* memo) {
  const auto pcr10 = quoted_pcr10(quote);
  if (!pcr10)
    return refused(Code::kUnverified, Reason::kImaReplay, "the quote comes without the value of PCR 10");
  return judge_ima_parts(parts, *pcr10, reference, memo);
}

}  // namespace sallyport::evidence
