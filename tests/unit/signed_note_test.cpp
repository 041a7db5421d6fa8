#include "attestation/ledger/signed_note.h"

#include <gtest/gtest.h>

#include "attestation/base/base64.h"
#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/ledger/checkpoint.h"
#include "attestation/ledger/cosignature.h"
#include "tests/support/matchers.h"
#include "tests/support/test_log.h"

namespace sallyport::ledger {
namespace {

using crypto::KeyAlgorithm;
using crypto::PrivateKey;
using test::FailsWith;
using test::Succeeds;
using test::TestLog;
using test::value_of;

const std::string kDash = "\xE2\x80\x94";
const std::string kSig = to_base64(Bytes(68, 1));  // well-formed, of no key

NoteKey note_key(const PrivateKey& key, const std::string& name, NoteKeyType type = NoteKeyType::kEd25519) {
  return value_of(NoteKey::make(name, type, key.public_key()));
}

std::string vkey_text(const std::string& name, const Bytes& material) {
  const Digest256 id = crypto::sha256({as_bytes(name), as_bytes("\n"), material});
  return name + "+" + to_hex(ByteView{id.get()}.first(4)) + "+" + to_base64(material);
}

TEST(Vkey, RoundTripsEveryType) {
  const PrivateKey ed = PrivateKey::generate(KeyAlgorithm::kEd25519),
                   p256 = PrivateKey::generate(KeyAlgorithm::kP256);
  for (const NoteKey& key :
       {note_key(ed, "a.example/log"), note_key(ed, "w.example", NoteKeyType::kCosignature),
        note_key(p256, "log", NoteKeyType::kEcdsa)}) {
    const NoteKey again = value_of(parse_vkey(format_vkey(key)));
    EXPECT_EQ(again, key);
    EXPECT_EQ(again.id(), key.id());
  }
}

TEST(Vkey, IdDependsOnNameAndTypeButNotForEcdsa) {
  const PrivateKey ed = PrivateKey::generate(KeyAlgorithm::kEd25519),
                   p256 = PrivateKey::generate(KeyAlgorithm::kP256);
  EXPECT_NE(note_key(ed, "a").id(), note_key(ed, "b").id());
  EXPECT_NE(note_key(ed, "a").id(), note_key(ed, "a", NoteKeyType::kCosignature).id());
  EXPECT_EQ(note_key(p256, "a", NoteKeyType::kEcdsa).id(), note_key(p256, "b", NoteKeyType::kEcdsa).id());
  EXPECT_EQ(to_hex(note_key(p256, "a", NoteKeyType::kEcdsa).id()),
            to_hex(view(p256.public_key().id())).substr(0, 8));
}

TEST(Vkey, RefusesOtherSpellingsIdsTypesAndKeys) {
  const PrivateKey ed = PrivateKey::generate(KeyAlgorithm::kEd25519),
                   p256 = PrivateKey::generate(KeyAlgorithm::kP256);
  const std::string good = format_vkey(note_key(ed, "log.example"));
  ASSERT_THAT(parse_vkey(good), Succeeds());
  const std::size_t plus = good.find('+');
  std::string other_id = good;
  other_id[plus + 1] = other_id[plus + 1] == '0' ? '1' : '0';
  std::string other_name = good;
  other_name[0] = 'x';
  Bytes raw = ed.public_key().raw();
  const auto with_type = [&](std::uint8_t type) {
    Bytes material{type};
    material.insert(material.end(), raw.begin(), raw.end());
    return vkey_text("log.example", material);
  };
  EXPECT_THAT(parse_vkey(with_type(1)), Succeeds());
  Bytes p256_as_ed{1};
  p256_as_ed.insert(p256_as_ed.end(), p256.public_key().spki().begin(), p256.public_key().spki().end());
  for (const std::string& bad : std::vector<std::string>{std::string{},
                                                         std::string{"+"},
                                                         other_id,
                                                         other_name,
                                                         good + "\n",
                                                         " " + good,
                                                         good + "=",
                                                         good.substr(0, good.size() - 4),
                                                         good.substr(0, plus),
                                                         good.substr(0, plus + 9),
                                                         good.substr(0, plus + 10),
                                                         with_type(0),
                                                         with_type(2),
                                                         with_type(3),
                                                         with_type(5),
                                                         with_type(6),
                                                         with_type(0xFF),
                                                         vkey_text("", Bytes{1}),
                                                         vkey_text("log.example", p256_as_ed),
                                                         vkey_text("log example", p256_as_ed)})
    EXPECT_THAT(parse_vkey(bad), FailsWith(Code::kMalformed)) << bad;

  std::string upper = good;
  for (std::size_t i = plus + 1; i < plus + 9; ++i) upper[i] = static_cast<char>(std::toupper(upper[i]));
  if (upper != good) {
    EXPECT_THAT(parse_vkey(upper), FailsWith(Code::kMalformed));
  }
}

TEST(Vkey, RefusesEd25519KeysForWhichAnyoneCanSign) {
  const char* bad[] = {
      "0100000000000000000000000000000000000000000000000000000000000000",
      "0100000000000000000000000000000000000000000000000000000000000080",
      "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
      "0000000000000000000000000000000000000000000000000000000000000000",
      "0000000000000000000000000000000000000000000000000000000000000080",
      "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
      "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
      "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
      "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
      // Second spellings: y + p.
      "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
      "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
      "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
      "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
  };
  for (const char* hex : bad) {
    Bytes material{4};
    const Bytes raw = value_of(parse_hex(hex, 32));
    material.insert(material.end(), raw.begin(), raw.end());
    EXPECT_THAT(parse_vkey(vkey_text("w.example", material)), FailsWith(Code::kMalformed)) << hex;
  }
}

TEST(Vkey, WithTheNeutralPointWouldAcceptAForgery) {
  // The reason for the test above, shown on the library's own verification: A = neutral, R = neutral, S = 0
  // signs everything.
  const auto key = crypto::PublicKey::from_ed25519(
      value_of(parse_hex("0100000000000000000000000000000000000000000000000000000000000000", 32)));
  ASSERT_THAT(key, Succeeds());
  crypto::Signature64 forged{};
  forged[0] = 1;
  EXPECT_THAT(crypto::verify_ed25519(*key, as_bytes("anything"), forged), Succeeds());
  EXPECT_THAT(NoteKey::make("w.example", NoteKeyType::kCosignature, *key), FailsWith(Code::kMalformed));
}

TEST(NoteName, RefusesSpaceOfAnyKindPlusAndControlCharacters) {
  for (const char* good : {"a", "example.com/log", "\xC3\xA9t\xC3\xA9", "a\x7F"})
    EXPECT_THAT(check_note_name(good), Succeeds());
  for (const char* bad :
       {"", "a b", "a+b", "a\tb", "a\nb", "a\xC2\xA0z", "a\xE2\x80\x83z", "a\xE3\x80\x80", "a\xC2\x85z",
        "\xFF", "a\xC3", "\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE0\x80\x80", "a\x1Fz"})
    EXPECT_THAT(check_note_name(bad), FailsWith(Code::kMalformed)) << bad;
  EXPECT_THAT(check_note_name(std::string(255, 'a')), Succeeds());
  EXPECT_THAT(check_note_name(std::string(256, 'a')), FailsWith(Code::kMalformed));
}

TEST(SignedNote, SplitsAtTheLastEmptyLine) {
  const std::string note = "first\n\nsecond\n\n" + kDash + " a " + kSig + "\n";
  const ClaimedNote claimed = value_of(parse_note(note));
  EXPECT_EQ(claimed.text, "first\n\nsecond\n");
  ASSERT_EQ(claimed.signatures.size(), 1u);
  EXPECT_EQ(claimed.signatures[0].signature.size(), 64u);
  EXPECT_EQ(encode_note(claimed), note);
}

TEST(SignedNote, RefusesEveryOtherForm) {
  const std::string line = kDash + " a " + kSig + "\n";
  ASSERT_THAT(parse_note("text\n\n" + line), Succeeds());
  for (const std::string& bad : std::vector<std::string>{
           std::string{},
           std::string{"text\n"},
           std::string{"text\n\n"},
           "text\n" + line,
           "text\n\n" + line.substr(0, line.size() - 1),
           "text\n\n" + line + "\n",
           "text\n\n" + line + "x\n",
           "text\n\n- a " + kSig + "\n",
           "text\n\n" + kDash + "a " + kSig + "\n",
           "text\n\n" + kDash + "  a " + kSig + "\n",
           "text\n\n" + kDash + " a  " + kSig + "\n",
           "text\n\n" + kDash + " a " + kSig + " \n",
           "text\n\n" + kDash + " a " + kSig.substr(1) + "\n",
           "text\n\n" + kDash + " a " + kSig + "=\n",
           "text\n\n" + kDash + " a+b " + kSig + "\n",
           "text\n\n" + kDash + " a " + to_base64(Bytes(4)) + "\n",
           "text\n\n" + kDash + " a " + to_base64(Bytes(3)) + "\n",
           "text\n\n" + kDash + " a \n",
           "te\txt\n\n" + line,
           "te\rxt\n\n" + line,
           "te\xFFxt\n\n" + line,
           std::string{"te\0xt\n\n", 8} + line,
           "text\r\n\r\n" + line,
           "text\n\n" + kDash + " a " + to_base64(Bytes(kMaxNoteSignatureBytes + 1)) + "\n"})
    EXPECT_THAT(parse_note(bad), FailsWith(Code::kMalformed)) << bad;
}

TEST(SignedNote, HasACapOnSignaturesAndSize) {
  std::string note = "text\n\n";
  for (std::size_t i = 0; i < kMaxNoteSignatures; ++i)
    note += kDash + " a" + std::to_string(i) + " " + kSig + "\n";
  EXPECT_THAT(parse_note(note), Succeeds());
  EXPECT_THAT(parse_note(note + kDash + " z " + kSig + "\n"), FailsWith(Code::kMalformed));
  const std::string tail = "\n\n" + kDash + " a " + kSig + "\n";
  EXPECT_THAT(parse_note(std::string(kMaxNoteBytes - tail.size(), 'x') + tail), Succeeds());
  EXPECT_THAT(parse_note(std::string(kMaxNoteBytes - tail.size() + 1, 'x') + tail),
              FailsWith(Code::kMalformed));
}

class SignedNoteKeys : public testing::Test {
 protected:
  const PrivateKey alice_ = PrivateKey::generate(KeyAlgorithm::kEd25519);
  const PrivateKey bob_ = PrivateKey::generate(KeyAlgorithm::kEd25519);
  const NoteKey alice_key_ = note_key(alice_, "alice"), bob_key_ = note_key(bob_, "bob");
  const std::string text_ = "some text\n";
  const SignatureLine by_alice_ = value_of(sign_note_line(alice_, "alice", text_));
  const SignatureLine by_bob_ = value_of(sign_note_line(bob_, "bob", text_));
};

TEST_F(SignedNoteKeys, VerifyNamesEachKeyThatSigned) {
  const ClaimedNote note{text_, {by_bob_, by_alice_}};
  const auto lines = value_of(verify_note(note, std::vector{alice_key_, bob_key_}));
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].key, 1u);
  EXPECT_EQ(lines[1].key, 0u);
  EXPECT_EQ(lines[1].line, 1u);
  EXPECT_EQ(lines[0].time, UnixSeconds{0});
}

TEST_F(SignedNoteKeys, VerifyIgnoresUnknownKeysEvenOfTheSameNameOrId) {
  SignatureLine same_name = by_bob_, same_id = by_bob_;
  same_name.name = "alice";
  same_id.key_id = alice_key_.id();
  const ClaimedNote note{text_, {by_bob_, same_name, same_id, by_alice_}};
  EXPECT_EQ(value_of(verify_note(note, std::vector{alice_key_})).size(), 1u);
}

TEST_F(SignedNoteKeys, VerifyRefusesTheWholeNoteWhenAKnownKeysLineFails) {
  SignatureLine broken = by_alice_;
  broken.signature[10] ^= 1;
  EXPECT_THAT(verify_note({text_, {by_bob_, broken}}, std::vector{alice_key_, bob_key_}),
              FailsWith(Reason::kLogCheckpoint));
  EXPECT_THAT(verify_note({text_, {by_bob_, broken}}, std::vector{bob_key_}), Succeeds());
  SignatureLine shorter = by_alice_;
  shorter.signature.pop_back();
  EXPECT_THAT(verify_note({text_, {by_bob_, shorter}}, std::vector{alice_key_, bob_key_}),
              FailsWith(Code::kUnverified));
}

TEST_F(SignedNoteKeys, VerifyRefusesNotesWithoutAKnownKeyOrWithOneTwice) {
  EXPECT_THAT(verify_note({text_, {by_bob_}}, std::vector{alice_key_}), FailsWith(Code::kUnverified));
  EXPECT_THAT(verify_note({text_, {by_bob_}}, {}), FailsWith(Code::kUnverified));
  EXPECT_THAT(verify_note({text_, {by_alice_, by_alice_}}, std::vector{alice_key_}),
              FailsWith(Code::kUnverified));
  EXPECT_THAT(verify_note({"other text\n", {by_alice_}}, std::vector{alice_key_}),
              FailsWith(Code::kUnverified));
}

TEST_F(SignedNoteKeys, AddRefusesASecondLineOfOneKey) {
  const std::string note = encode_note({text_, {by_alice_}});
  EXPECT_EQ(value_of(add_signature_lines(note, std::vector{by_bob_})),
            encode_note({text_, {by_alice_, by_bob_}}));
  EXPECT_THAT(add_signature_lines(note, std::vector{by_alice_}), FailsWith(Code::kMalformed));
  EXPECT_THAT(add_signature_lines("not a note\n", std::vector{by_alice_}), FailsWith(Code::kMalformed));
}

TEST_F(SignedNoteKeys, SigningRefusesWhatCouldNotBeParsed) {
  EXPECT_THAT(sign_note_line(alice_, "a b", text_), FailsWith(Code::kMalformed));
  EXPECT_THAT(sign_note_line(alice_, "alice", "no newline"), FailsWith(Code::kMalformed));
  EXPECT_THAT(sign_note_line(alice_, "alice", "a\tb\n"), FailsWith(Code::kMalformed));
  EXPECT_THAT(sign_note_line(PrivateKey::generate(KeyAlgorithm::kP256), "alice", text_),
              FailsWith(Code::kMalformed));
}

TEST_F(SignedNoteKeys, FramesASignatureMadeElsewhere) {
  const auto signature = value_of(alice_.sign_ed25519(as_bytes(text_)));
  EXPECT_EQ(make_signature_line(alice_key_, signature), by_alice_);
}

TEST_F(SignedNoteKeys, FramesAnEcdsaSignatureAsDerAndTakesOnlyThatForm) {
  for (int i = 0; i < 40; ++i) {  // so that r and s with a leading bit, or a leading zero byte, occur
    const PrivateKey key = PrivateKey::generate(KeyAlgorithm::kP256);
    const NoteKey named = note_key(key, "ecdsa.example", NoteKeyType::kEcdsa);
    const auto signature = value_of(key.sign_p256(crypto::sha256(as_bytes(text_))));
    SignatureLine line = make_signature_line(named, signature);
    EXPECT_THAT(verify_signature_line(line, named, text_), Succeeds());
    EXPECT_THAT(verify_signature_line(line, named, "other\n"), FailsWith(Code::kUnverified));
    SignatureLine longer = line;
    longer.signature.push_back(0);
    EXPECT_THAT(verify_signature_line(longer, named, text_), FailsWith(Code::kUnverified));
    SignatureLine raw = line;
    raw.signature.assign(signature.begin(), signature.end());
    EXPECT_THAT(verify_signature_line(raw, named, text_), FailsWith(Code::kUnverified));
  }
}

TEST(Checkpoint, RoundTripsItsText) {
  const TestLog log;
  const Checkpoint empty = log.head(0);
  EXPECT_EQ(checkpoint_text(empty),
            "us.sallyport.corp.example/log/1\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n");
  EXPECT_EQ(value_of(parse_checkpoint_text(checkpoint_text(empty))), empty);
  Checkpoint large = empty;
  large.size = TreeSize{kMaxTreeSize};
  EXPECT_EQ(value_of(parse_checkpoint_text(checkpoint_text(large))), large);
  EXPECT_EQ(note_digest("abc"), crypto::sha256(as_bytes("abc")));
}

TEST(Checkpoint, RefusesEveryOtherForm) {
  const std::string root = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
  ASSERT_THAT(parse_checkpoint_text("o\n7\n" + root + "\n"), Succeeds());
  for (const std::string& bad :
       std::vector<std::string>{std::string{},
                                "o\n7\n" + root,
                                "\n7\n" + root + "\n",
                                "o\n\n" + root + "\n",
                                "o\n07\n" + root + "\n",
                                "o\n-7\n" + root + "\n",
                                "o\n+7\n" + root + "\n",
                                "o\n7 \n" + root + "\n",
                                "o\n0x7\n" + root + "\n",
                                "o\n4611686018427387905\n" + root + "\n",
                                "o\n99999999999999999999999\n" + root + "\n",
                                "o\n18446744073709551617\n" + root + "\n",
                                "o\n7\n" + root.substr(0, 40) + "\n",
                                "o\n7\n" + root + "AAAA\n",
                                "o\n7\n" + root + " \n",
                                "o\n7\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=\n",
                                "o\n7\n" + root + "\nextension\n",
                                "o\n7\n" + root + "\n\n",
                                "o\n7\n",
                                std::string(256, 'o') + "\n7\n" + root + "\n",
                                "o\r\n7\n" + root + "\n"})
    EXPECT_THAT(parse_checkpoint_text(bad), FailsWith(Code::kMalformed)) << bad;
}

TEST(Checkpoint, TakesExtensionLinesOnlyWhereAsked) {
  const std::string text = "o\n7\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\nextension\n";
  const Checkpoint checkpoint = value_of(parse_checkpoint_text(text, Extensions::kAllow));
  EXPECT_EQ(checkpoint.extensions, std::vector<std::string>{"extension"});
  EXPECT_EQ(checkpoint_text(checkpoint), text);
  EXPECT_THAT(parse_checkpoint_text(text + "\n", Extensions::kAllow), FailsWith(Code::kMalformed));
}

TEST(Checkpoint, VerifiesOnlyUnderTheKeyOfItsOrigin) {
  TestLog log, other{4, "other.example/log/1"};
  log.tree.append(hash_leaf(as_bytes("x")));
  const std::string note = log.signed_note(log.head(1));
  EXPECT_EQ(value_of(verify_checkpoint(note, log.log_vkey())).checkpoint(), log.head(1));
  EXPECT_EQ(value_of(verify_checkpoint(note, log.log_vkey())).note(), note);
  EXPECT_THAT(verify_checkpoint(note, other.log_vkey()), FailsWith(Reason::kLogCheckpoint));
  EXPECT_THAT(verify_checkpoint(note, std::span<const NoteKey>{}, Extensions::kRefuse),
              FailsWith(Reason::kLogCheckpoint));
  // Another log's head, signed with this log's key: the key's name is not the origin.
  const std::string foreign = checkpoint_text(other.head(0));
  const std::string mixed =
      encode_note({foreign, {value_of(sign_note_line(log.log_key(), log.origin(), foreign))}});
  EXPECT_THAT(verify_checkpoint(mixed, log.log_vkey()), FailsWith(Reason::kLogCheckpoint));
  // Any of several keys of one origin may have signed.
  const NoteKey next = note_key(other.log_key(), log.origin());
  EXPECT_THAT(verify_checkpoint(note, std::vector{next, log.log_vkey()}, Extensions::kRefuse), Succeeds());
}

TEST(Checkpoint, RefusesAnEmptyTreeWithARootAndAKeyThatSignsTimes) {
  const TestLog log;
  Checkpoint wrong = log.head(0);
  wrong.root = hash_leaf({});
  EXPECT_THAT(verify_checkpoint(log.signed_note(wrong), log.log_vkey()), FailsWith(Reason::kLogCheckpoint));
  const NoteKey cosigner = note_key(log.log_key(), log.origin(), NoteKeyType::kCosignature);
  const std::string text = checkpoint_text(log.head(0));
  const std::string note =
      encode_note({text, {value_of(cosign_line(log.log_key(), log.origin(), UnixSeconds{1}, text))}});
  EXPECT_THAT(verify_checkpoint(note, cosigner), FailsWith(Reason::kLogCheckpoint));
}

TEST(Cosignature, SignsTimeAndText) {
  EXPECT_EQ(cosignature_message(UnixSeconds{1679315147}, "o\n1\nr\n"),
            "cosignature/v1\ntime 1679315147\no\n1\nr\n");
  const TestLog log;
  const std::string text = checkpoint_text(log.head(0));
  const SignatureLine line = log.cosignature(0, 1700000000, text);
  EXPECT_EQ(value_of(verify_cosignature(line, log.witness_vkey(0), text)), UnixSeconds{1700000000});
  EXPECT_EQ(make_cosignature_line(log.witness_vkey(0), UnixSeconds{1700000000},
                                  value_of(log.witness_key(0).sign_ed25519(
                                      as_bytes(cosignature_message(UnixSeconds{1700000000}, text))))),
            line);
  SignatureLine later = line;
  later.signature[7] ^= 1;  // the time
  EXPECT_THAT(verify_cosignature(later, log.witness_vkey(0), text), FailsWith(Reason::kLogCheckpoint));
  EXPECT_THAT(verify_cosignature(line, log.witness_vkey(0), text + "x\n"), FailsWith(Reason::kLogCheckpoint));
  EXPECT_THAT(verify_cosignature(line, log.witness_vkey(1), text), FailsWith(Reason::kLogCheckpoint));
  EXPECT_THAT(verify_cosignature(line, log.log_vkey(), text), FailsWith(Reason::kLogCheckpoint));
}

TEST(Cosignature, RefusesTimesThatCannotBe) {
  const TestLog log;
  const std::string text = checkpoint_text(log.head(0));
  for (const std::uint64_t time : {std::uint64_t{0}, kMaxUnixSeconds + 1, ~std::uint64_t{0}}) {
    EXPECT_THAT(cosign_line(log.witness_key(0), "w", UnixSeconds{time}, text), FailsWith(Code::kMalformed));
    const auto signature =
        value_of(log.witness_key(0).sign_ed25519(as_bytes(cosignature_message(UnixSeconds{time}, text))));
    EXPECT_THAT(verify_cosignature(make_cosignature_line(log.witness_vkey(0), UnixSeconds{time}, signature),
                                   log.witness_vkey(0), text),
                FailsWith(Reason::kLogCheckpoint));
  }
  EXPECT_THAT(cosign_line(log.witness_key(0), "w", UnixSeconds{kMaxUnixSeconds}, text), Succeeds());
}

}  // namespace
}  // namespace sallyport::ledger
