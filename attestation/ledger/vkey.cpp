#include "attestation/ledger/vkey.h"

#include <algorithm>

#include "attestation/base/base64.h"
#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/ledger/lines.h"

namespace sallyport::ledger {
namespace {

constexpr std::size_t kMaxVkeyKeyBytes = 1024;

// The y of the points of order 1, 2, 4 and 8 of edwards25519, little-endian: 1, −1, 0, and two of order 8.
constexpr std::array<ByteArray<32>, 5> kSmallOrder = {{
    {0x01},
    {0xEC, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
     0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F},
    {},
    {0x26, 0xE8, 0x95, 0x8F, 0xC2, 0xB2, 0x27, 0xB0, 0x45, 0xC3, 0xF4, 0x89, 0xF2, 0xEF, 0x98, 0xF0,
     0xD5, 0xDF, 0xAC, 0x05, 0xD3, 0xC6, 0x33, 0x39, 0xB1, 0x38, 0x02, 0x88, 0x6D, 0x53, 0xFC, 0x05},
    {0xC7, 0x17, 0x6A, 0x70, 0x3D, 0x4D, 0xD8, 0x4F, 0xBA, 0x3C, 0x0B, 0x76, 0x0D, 0x10, 0x67, 0x0F,
     0x2A, 0x20, 0x53, 0xFA, 0x2C, 0x39, 0xCC, 0xC6, 0x4E, 0xC7, 0xFD, 0x77, 0x92, 0xAC, 0x03, 0x7A},
}};

// check_point refuses encodings of y ≥ p = 2^255 − 19, which are second spellings, and points of small order.
Status check_point(const Bytes& raw) {
  ByteArray<32> y;
  SP_ASSERT(raw.size() == y.size());
  std::memcpy(y.data(), raw.data(), y.size());
  y[31] &= 0x7F;
  if (std::find(kSmallOrder.begin(), kSmallOrder.end(), y) != kSmallOrder.end())
    return Error{Code::kMalformed, "an Ed25519 key of small order"};
  const bool all_ones =
      y[31] == 0x7F && std::all_of(y.begin() + 1, y.end() - 1, [](auto b) { return b == 0xFF; });
  if (all_ones && y[0] >= 0xED) return Error{Code::kMalformed, "an Ed25519 key that is not canonical"};
  return Done{};
}

const Bytes& key_material(NoteKeyType type, const crypto::PublicKey& key) {
  return type == NoteKeyType::kEcdsa ? key.spki() : key.raw();
}

// The id is of name and key, but for ECDSA, where it is of the key alone (C2SP signed-note, type 0x02).
NoteKeyId key_id_of(std::string_view name, NoteKeyType type, const crypto::PublicKey& key) {
  const auto type_byte = static_cast<std::uint8_t>(type);
  const Digest256 digest = type == NoteKeyType::kEcdsa
                               ? crypto::sha256(key.spki())
                               : crypto::sha256({as_bytes(name), as_bytes("\n"), ByteView{&type_byte, 1},
                                                 key_material(type, key)});
  NoteKeyId id;
  std::memcpy(id.data(), digest.get().data(), id.size());
  return id;
}

}  // namespace

Status check_note_name(std::string_view name) {
  if (name.empty()) return Error{Code::kMalformed, "an empty key name"};
  if (name.size() > kMaxNoteNameBytes) return Error{Code::kMalformed, "a key name that is too long"};
  SP_CHECK(check_text(name));
  if (name.find('+') != std::string_view::npos || has_space(name))
    return Error{Code::kMalformed, "a key name with a plus or white space"};
  return Done{};
}

Result<NoteKey> NoteKey::make(std::string name, NoteKeyType type, const crypto::PublicKey& key) {
  SP_CHECK(check_note_name(name));
  const auto wanted =
      type == NoteKeyType::kEcdsa ? crypto::KeyAlgorithm::kP256 : crypto::KeyAlgorithm::kEd25519;
  if (key.algorithm() != wanted) return Error{Code::kMalformed, "a key of another algorithm than its type"};
  if (wanted == crypto::KeyAlgorithm::kEd25519) SP_CHECK(check_point(key.raw()));
  const NoteKeyId id = key_id_of(name, type, key);
  return NoteKey{std::move(name), type, id, key};
}

Result<NoteKey> parse_vkey(std::string_view text) {
  const std::size_t plus = text.find('+');
  if (plus == std::string_view::npos || text.size() < plus + 10 || text[plus + 9] != '+')
    return Error{Code::kMalformed, "a vkey that is not name+id+key"};
  const std::string_view name = text.substr(0, plus);
  SP_TRY(const NoteKeyId id, parse_hex_array<4>(text.substr(plus + 1, 8)));
  SP_TRY(const Bytes material, parse_base64(text.substr(plus + 10), kMaxVkeyKeyBytes));
  if (material.empty()) return Error{Code::kMalformed, "a vkey without a key"};

  const ByteView key_bytes = ByteView{material}.subspan(1);
  const auto make = [&](NoteKeyType type, Result<crypto::PublicKey> key) -> Result<NoteKey> {
    SP_TRY(const crypto::PublicKey parsed, std::move(key));
    SP_TRY(NoteKey made, NoteKey::make(std::string{name}, type, parsed));
    if (made.id() != id) return Error{Code::kMalformed, "a vkey whose id is not its key's"};
    return made;
  };
  switch (material[0]) {
    case 0x01:
      return make(NoteKeyType::kEd25519, crypto::PublicKey::from_ed25519(key_bytes));
    case 0x02:
      return make(NoteKeyType::kEcdsa, crypto::PublicKey::parse_spki(key_bytes));
    case 0x04:
      return make(NoteKeyType::kCosignature, crypto::PublicKey::from_ed25519(key_bytes));
    default:
      return Error{Code::kMalformed, "a vkey of a type that is not supported"};
  }
}

std::string format_vkey(const NoteKey& key) {
  Bytes material{static_cast<std::uint8_t>(key.type())};
  const Bytes& bytes = key_material(key.type(), key.key());
  material.insert(material.end(), bytes.begin(), bytes.end());
  return key.name() + "+" + to_hex(key.id()) + "+" + to_base64(material);
}

}  // namespace sallyport::ledger
