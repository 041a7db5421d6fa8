#pragma once

#include <compare>
#include <cstdint>
#include <string>

#include "attestation/base/bytes.h"

namespace sallyport {

// Strong<T, Tag> is a T that cannot be passed where another kind of T is meant.
template <class T, class Tag>
class Strong {
 public:
  Strong() = default;
  explicit Strong(T value) : value_(std::move(value)) {}
  const T& get() const { return value_; }
  friend auto operator<=>(const Strong&, const Strong&) = default;
  friend bool operator==(const Strong&, const Strong&) = default;

 private:
  T value_{};
};

using Digest256 = Strong<ByteArray<32>, struct Digest256Tag>;   // SHA-256
using CaseId = Strong<ByteArray<16>, struct CaseIdTag>;         // chosen by the client that opens the case
using DeviceId = Strong<Digest256, struct DeviceIdTag>;         // SHA-256 of the EK's SubjectPublicKeyInfo
using KeyId = Strong<Digest256, struct KeyIdTag>;               // SHA-256 of a SubjectPublicKeyInfo
using Nonce = Strong<ByteArray<32>, struct NonceTag>;
using PersonId = Strong<std::string, struct PersonIdTag>;
using RegionId = Strong<std::string, struct RegionIdTag>;
using GroupId = Strong<std::string, struct GroupIdTag>;
using ResourceId = Strong<std::string, struct ResourceIdTag>;
using RuleId = Strong<std::string, struct RuleIdTag>;
using Origin = Strong<std::string, struct OriginTag>;           // of a log, as in its checkpoints
using LeafIndex = Strong<std::uint64_t, struct LeafIndexTag>;
using TreeSize = Strong<std::uint64_t, struct TreeSizeTag>;
using UnixMillis = Strong<std::uint64_t, struct UnixMillisTag>; // ms since 1970-01-01T00:00:00Z

inline ByteView view(const Digest256& d) { return d.get(); }
inline ByteView view(const CaseId& c) { return c.get(); }
inline ByteView view(const DeviceId& d) { return d.get().get(); }
inline ByteView view(const KeyId& k) { return k.get().get(); }
inline ByteView view(const Nonce& n) { return n.get(); }

}  // namespace sallyport
