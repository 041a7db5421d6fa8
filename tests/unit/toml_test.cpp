#include "attestation/base/toml.h"

#include "tests/support/matchers.h"

namespace sallyport::policy {
namespace {

using test::FailsWith;
using test::Succeeds;
using test::value_of;
using testing::HasSubstr;

// shown prints a document's meaning in one canonical line.
std::string shown(const TomlNode& node) {
  switch (node.kind) {
    case TomlNode::Kind::kString:
      return "'" + node.text + "'";
    case TomlNode::Kind::kInteger:
      return std::to_string(node.integer);
    case TomlNode::Kind::kBoolean:
      return node.boolean ? "true" : "false";
    case TomlNode::Kind::kArray: {
      std::string out = "[";
      for (const TomlNode& item : node.items) out += (out.size() == 1 ? "" : " ") + shown(item);
      return out + "]";
    }
    case TomlNode::Kind::kTable: {
      std::string out = "{";
      for (const TomlField& field : node.fields)
        out += (out.size() == 1 ? "" : " ") + field.key + "=" + shown(field.value);
      return out + "}";
    }
  }
  return "?";
}

std::string read(std::string_view text) {
  return shown(value_of(parse_toml(text)));
}

TEST(Toml, ReadsEveryFormThatItKnows) {
  EXPECT_EQ(read(""), "{}");
  EXPECT_EQ(read("# nothing\n\t \n"), "{}");
  EXPECT_EQ(read("a=1"), "{a=1}");
  EXPECT_EQ(read("a = -12 # twelve\nb-_9 = 0\n\"c d\" = true\n'e' = false"),
            "{a=-12 b-_9=0 c d=true e=false}");
  EXPECT_EQ(read("a = 999999999999999999"), "{a=999999999999999999}");
  EXPECT_EQ(read(R"(a = "x # \" \\ \n\t" )"), "{a='x # \" \\ \n\t'}");
  EXPECT_EQ(read("a = 'x \\n \"'"), "{a='x \\n \"'}");
  EXPECT_EQ(read("a = ''\nb = \"\""), "{a='' b=''}");
  EXPECT_EQ(read("a = \"\"\"\nx \"\"y\n\\\\\"\"\"\nb=1"), "{a='x \"\"y\n\\' b=1}");
  EXPECT_EQ(read("a = '''\n\n'x\\'''"), "{a='\n'x\\'}");
  EXPECT_EQ(read("a = \"\"\"\"\"\""), "{a=''}");
  EXPECT_EQ(read("a = []\nb = [ 1, 'x', [true], # one\n\n {c = 2}, ]"), "{a=[] b=[1 'x' [true] {c=2}]}");
  EXPECT_EQ(read("a = {}\nb = { c = 1, d.e = [\n], d.f = 2 }"), "{a={} b={c=1 d={e=[] f=2}}}");
  EXPECT_EQ(read("a.b = 1\na . 'c' = 2"), "{a={b=1 c=2}}");
  EXPECT_EQ(read("[a]\nb = 1\n[ c . d ]\ne = 2\n[c]\nf = 3"), "{a={b=1} c={d={e=2} f=3}}");
  EXPECT_EQ(read("[[a]]\nb = 1\n[[a]]\n[a.c]\nd = 2\n[[a.e]]\nf = 3\n[[a.e]]"),
            "{a=[{b=1} {c={d=2} e=[{f=3} {}]}]}");
}

TEST(Toml, SaysTheLineOfEachValue) {
  const TomlNode root = value_of(parse_toml("a = '''\n\n'''\nb = [\n1,\n2]\n[[c]]\n[[c]]\nd = 1"));
  EXPECT_EQ(root.find("a")->line, 1U);
  EXPECT_EQ(root.find("b")->line, 4U);
  EXPECT_EQ(root.find("b")->items[1].line, 6U);
  EXPECT_EQ(root.find("c")->items[1].line, 8U);
  EXPECT_EQ(root.find("c")->items[1].find("d")->line, 9U);
  EXPECT_EQ(root.find("x"), nullptr);
}

TEST(Toml, RefusesWhatIsNotTomlOrNotNeeded) {
  const std::pair<const char*, const char*> table[] = {
      {"a", "line 1: = is missing"},
      {"= 1", "a key is missing"},
      {"a. = 1", "a key is missing"},
      {".a = 1", "a key is missing"},
      {"a =", "a value must be"},
      {"a = \n1", "a value must be"},
      {"a = 1 b = 2", "something follows"},
      {"a = 1 2", "something follows"},
      {"a = 01", "a value must be"},
      {"a = +1", "a value must be"},
      {"a = 1_0", "something follows"},
      {"a = 0x10", "something follows"},
      {"a = 1.5", "something follows"},
      {"a = inf", "a value must be"},
      {"a = 1979-05-27", "something follows"},
      {"a = 1000000000000000000", "a value must be"},
      {"a = True", "a value must be"},
      {"a = truefalse", "something follows"},
      {"a = \"x", "a string has no end"},
      {"a = \"x\n\"", "no end on its line"},
      {"a = \"x\\", "an escape other"},
      {"a = \"\\u0041\"", "an escape other"},
      {"a = \"\"\"x\\\n y\"\"\"", "an escape other"},
      {"a = \"\"\"x\"\"\"\"", "more than three quotes"},
      {"a = '''x''''", "more than three quotes"},
      {"a = '''x", "a string has no end"},
      {"'''a''' = 1", "a key is of one line"},
      {"a = [1 2]", "an array must go on"},
      {"a = [1", "an array must go on"},
      {"a = [,]", "a value must be"},
      {"a = {b = 1,}", "a key is missing"},
      {"a = {b = 1\n}", "on the same line"},
      {"a = {b = 1, b = 2}", "`b` is defined twice"},
      {"a = {b = 1", "on the same line"},
      {"[a", "a table's name must end"},
      {"[a\n]", "a table's name must end"},
      {"[]", "a key is missing"},
      {"[# x", "a key is missing"},
      {"[ [a]]", "a key is missing"},
      {"[[a] ]", "a table's name must end"},
      {"[a] b = 1", "something follows"},
      {"a = 1\n\na = 2", "line 3: `a` is defined twice"},
      {"[a]\n[a]", "line 2: `a` is defined twice"},
      {"[a]\n[[a]]", "`a` is defined twice"},
      {"[[a]]\n[a]", "`a` is defined twice"},
      {"[a.b]\n[[a]]", "`a` is defined twice"},
      {"a = []\n[[a]]", "`a` is defined twice"},
      {"a = {}\n[a]", "`a` is defined twice"},
      {"a = {}\n[a.b]", "`a` is defined twice"},
      {"a = {}\na.b = 1", "`a` is defined twice"},
      {"a = [{}]\n[a.b]", "`a` is defined twice"},
      {"a.b = 1\n[a]", "`a` is defined twice"},
      {"a.b = 1\n[a.c]", "`a` is defined twice"},
      {"a.b = 1\na.b.c = 2", "`b` is defined twice"},
      {"[a.b]\n[a]\nb.c = 1", "`b` is defined twice"},
      {"a = 1\n[a.b]", "`a` is defined twice"},
      {"a\x01 = 1", "printable ASCII"},
      {"\xEF\xBB\xBF", "printable ASCII"},
      {"a = 1\r\n", "printable ASCII"},
  };
  for (const auto& [text, because] : table) {
    const auto result = parse_toml(text);
    ASSERT_THAT(result, FailsWith(Reason::kMalformed)) << text;
    EXPECT_THAT(result.error().what, HasSubstr(because)) << text;
  }
  EXPECT_THAT(parse_toml(std::string_view{"a = 1\0", 6}), FailsWith(Code::kMalformed));
}

TEST(Toml, IsBounded) {
  const auto fields = [](int count) {
    std::string out;
    for (int i = 0; i < count; ++i) out += "k" + std::to_string(i) + " = 1\n";
    return out;
  };
  EXPECT_THAT(parse_toml(fields(64)), Succeeds());
  EXPECT_THAT(parse_toml(fields(65)), FailsWith(Reason::kMalformed));
  EXPECT_THAT(parse_toml(std::string(64, 'k') + " = 1"), Succeeds());
  EXPECT_THAT(parse_toml(std::string(65, 'k') + " = 1"), FailsWith(Reason::kMalformed));
  EXPECT_THAT(parse_toml("a = " + std::string(8, '[') + std::string(8, ']')), Succeeds());
  EXPECT_THAT(parse_toml("a = " + std::string(9, '[') + std::string(9, ']')), FailsWith(Reason::kMalformed));
  std::string many = "a = [";
  for (int i = 0; i < 1 << 18; ++i) many += "1,";
  EXPECT_THAT(parse_toml(many + "]"), FailsWith(Reason::kMalformed));
}

}  // namespace
}  // namespace sallyport::policy
