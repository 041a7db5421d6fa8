#pragma once

#include <string>
#include <string_view>

#include "attestation/crypto/public_key.h"

namespace sallyport::ledger {

// What a key of a signed note signs (C2SP signed-note, "Signature types"). Others exist; no key of ours is of
// them.
enum class NoteKeyType : std::uint8_t {
  kEd25519 = 0x01,      // the note text
  kEcdsa = 0x02,        // the note text; P-256 only
  kCosignature = 0x04,  // cosignature/v1: a time and a checkpoint
};

using NoteKeyId = ByteArray<4>;  // a label, not an identity: anyone can make another key with the same

inline constexpr std::size_t kMaxNoteNameBytes = 255;

// NoteKey is a public key with the name and the purpose under which it signs notes.
class NoteKey {
 public:
  // make refuses a name that is empty, longer than 255 bytes, not UTF-8 or holds control characters, '+' or
  // Unicode white space; a key of another algorithm than the type wants; an Ed25519 key that is not canonical
  // or of small order (whose signatures anyone can make). Errors: kMalformed.
  static Result<NoteKey> make(std::string name, NoteKeyType type, const crypto::PublicKey& key);

  const std::string& name() const { return name_; }
  NoteKeyType type() const { return type_; }
  const NoteKeyId& id() const { return id_; }
  const crypto::PublicKey& key() const { return key_; }

  friend bool operator==(const NoteKey& a, const NoteKey& b) {
    return a.name_ == b.name_ && a.type_ == b.type_ && a.key_ == b.key_;
  }

 private:
  NoteKey(std::string name, NoteKeyType type, NoteKeyId id, crypto::PublicKey key)
      : name_(std::move(name)), type_(type), id_(id), key_(std::move(key)) {}
  std::string name_;
  NoteKeyType type_;
  NoteKeyId id_;
  crypto::PublicKey key_;
};

// parse_vkey takes `name+hex(key id)+base64(type ‖ key)` in its one spelling and checks the key id. Errors:
// kMalformed, also for types other than the three above.
Result<NoteKey> parse_vkey(std::string_view text);
std::string format_vkey(const NoteKey& key);

// check_note_name tells whether a name may stand in a signature line. Errors: kMalformed.
Status check_note_name(std::string_view name);

}  // namespace sallyport::ledger
