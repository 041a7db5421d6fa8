// What a gate reads: its configuration, its frames, sshd's options, the file of ExposeAuthInfo.
#include <gtest/gtest.h>

#include <fstream>

#include "attestation/base/base64.h"
#include "broker/credentials/ssh_certificate.h"
#include "client/target/check.h"
#include "client/target/config.h"
#include "client/target/keeper.h"
#include "client/target/processes.h"
#include "client/target/protocol.h"
#include "client/target/service.h"
#include "client/target/thin_client.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"

namespace sallyport::gate {
namespace {

using test::FailsWith;
using test::Succeeds;
using test::value_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr const char* kConfig = R"(
host = "db-7"
host_key = "/etc/ssh/ssh_host_ecdsa_key"
url = "https://us.sallyport.corp.example"
trust = "/etc/sallyport/trust.toml"
state = "/var/lib/sallyport-gate"
[accounts]
dbadmin = "/bin/bash"
readonly = "/bin/sh"
)";

TEST(GateConfig, HasDefaultsForSocketAndSshd) {
  const Config config = value_of(parse_config(kConfig));
  EXPECT_EQ(config.host, "db-7");
  EXPECT_EQ(config.host_key, "/etc/ssh/ssh_host_ecdsa_key");
  EXPECT_EQ(config.socket, kDefaultSocket);
  EXPECT_THAT(config.sshd, ElementsAre("/usr/sbin/sshd"));
  EXPECT_EQ(config.accounts.at("dbadmin"), "/bin/bash");
  EXPECT_EQ(config.accounts.size(), 2u);
}

TEST(GateConfig, RefusesWhatItDoesNotKnowAndWhatIsMissing) {
  const std::string good = kConfig;
  EXPECT_THAT(parse_config("nonsense = 1\n" + good), FailsWith(Reason::kUsage));
  for (const char* line :
       {"host = \"db-7\"\n", "host_key = \"/etc/ssh/ssh_host_ecdsa_key\"\n",
        "url = \"https://us.sallyport.corp.example\"\n", "trust = \"/etc/sallyport/trust.toml\"\n",
        "state = \"/var/lib/sallyport-gate\"\n"}) {
    std::string without = good;
    without.erase(without.find(line), std::string_view{line}.size());
    EXPECT_THAT(parse_config(without), FailsWith(Reason::kUsage)) << line;
  }
  EXPECT_THAT(parse_config(good.substr(0, good.find("[accounts]"))), FailsWith(Reason::kUsage));
  EXPECT_THAT(parse_config(good + "eve = \"sh\"\n"), FailsWith(Reason::kUsage));  // not absolute
  EXPECT_THAT(parse_config(good + "\"-eve\" = \"/bin/sh\"\n"), FailsWith(Reason::kUsage));
  EXPECT_THAT(parse_config(good + "eve = 7\n"), FailsWith(Reason::kUsage));
  EXPECT_THAT(parse_config("sshd = []\n" + good), FailsWith(Reason::kUsage));
  EXPECT_THAT(parse_config("socket = \"/run/other.sock\"\n" + good), FailsWith(Reason::kUsage));
  EXPECT_THAT(parse_config("sessions_without_cgroups = 1\n" + good), FailsWith(Reason::kUsage));
  EXPECT_FALSE(value_of(parse_config(good)).sessions_without_cgroups);
  EXPECT_TRUE(value_of(parse_config("sessions_without_cgroups = true\n" + good)).sessions_without_cgroups);
}

TEST(GateConfig, IsReadOnlyFromAFileThatOthersCannotWrite) {
  const test::TemporaryDirectory directory;
  const auto file = directory / "gate.toml";
  std::FILE* out = std::fopen(file.c_str(), "w");
  ASSERT_NE(out, nullptr);
  std::fputs(kConfig, out);
  std::fclose(out);
  std::filesystem::permissions(file, std::filesystem::perms{0644});
  EXPECT_THAT(load_config(file), Succeeds());
  std::filesystem::permissions(file, std::filesystem::perms{0664});
  EXPECT_THAT(load_config(file), FailsWith(Reason::kUsage));
  EXPECT_THAT(load_config(directory / "absent.toml"), FailsWith(Reason::kUsage));
}

// Whatever parses is what was encoded; cut short or longer it does not parse.
template <class Parse>
void expect_one_encoding(const Bytes& frame, const Parse& parse) {
  EXPECT_EQ(encode(value_of(parse(frame))), frame);
  for (std::size_t size = 0; size < frame.size(); ++size)
    EXPECT_THAT(parse(ByteView{frame}.first(size)), FailsWith(Code::kMalformed)) << size;
  Bytes longer = frame;
  longer.push_back(0);
  EXPECT_THAT(parse(longer), FailsWith(Code::kMalformed));
}

TEST(GateProtocol, HasOneEncodingOfEachFrame) {
  expect_one_encoding(encode(Ask{AskPrincipal{"dbadmin", {1, 2, 3}}}), parse_ask);
  AskSession session{{9, 8}, "uptime", "xterm", "10.20.4.17", true, {24, 80}};
  expect_one_encoding(encode(Ask{session}), parse_ask);
  session.command.reset();
  expect_one_encoding(encode(Ask{session}), parse_ask);
  expect_one_encoding(encode(Answer{Say::kEnded, 7, "why"}), parse_answer);
  expect_one_encoding(encode(Window{50, 132}), parse_window);
  expect_one_encoding(
      encode(KeeperOrder{
          "dbadmin", "/bin/bash", "id", true, "xterm", "00", "/sys/fs/cgroup/x", true, {1, 2}, 900'000}),
      parse_keeper_order);
  expect_one_encoding(encode(KeeperReport{true, record::WhyClosed::kDeadline, 255, 1u << 20}),
                      parse_keeper_report);
}

TEST(GateProtocol, RefusesCapsNulsAndUnknownFrames) {
  EXPECT_THAT(parse_ask(encode(Ask{AskPrincipal{std::string(65, 'a'), {}}})), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_ask(encode(Ask{AskPrincipal{"a", Bytes(credentials::kMaxSshCertificateBytes + 1)}})),
              FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_ask(encode(Ask{AskSession{{}, std::string("a\0b", 3), "", "", false, {}}})),
              FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_ask(encode(Window{1, 2})), FailsWith(Code::kMalformed));
  EXPECT_THAT(parse_window({}), FailsWith(Code::kMalformed));  // how a keeper is told to end
  EXPECT_THAT(parse_answer(Bytes{6, 0, 0, 0, 0, 0}), FailsWith(Code::kMalformed));
  Bytes report = encode(KeeperReport{});
  report[2] = 5;
  EXPECT_THAT(parse_keeper_report(report), FailsWith(Code::kMalformed));
}

// What sshd 9.2 prints with client/target/sshd_config.example, as far as it matters. The gate's program is
// this test: it must be a file that is there.
const std::filesystem::path kSelf = std::filesystem::read_symlink("/proc/self/exe");
const std::string kGoodSshd =
    "port 22\nauthorizedkeysfile none\nauthorizedkeyscommand none\nauthorizedprincipalsfile none\n"
    "exposeauthinfo yes\ndisableforwarding yes\npermittunnel no\npermituserrc no\npermituserenvironment no\n"
    "forcecommand none\npubkeyauthentication yes\npasswordauthentication no\nkbdinteractiveauthentication "
    "no\n"
    "hostbasedauthentication no\ngssapiauthentication no\npermitemptypasswords no\n"
    "authenticationmethods publickey\ntrustedusercakeys /etc/ssh/sallyport_ca.pub\n"
    "casignaturealgorithms ssh-ed25519,ecdsa-sha2-nistp256\n"
    "pubkeyacceptedalgorithms ssh-ed25519,ecdsa-sha2-nistp256-cert-v01@openssh.com\n"
    "hostkeyalgorithms ecdsa-sha2-nistp256,ssh-ed25519\nsetenv LC_TIME=C\n"
    "authorizedprincipalscommand " +
    kSelf.string() +
    " principals %u %k\n"
    "authorizedprincipalscommanduser nobody\nacceptenv LANG\nacceptenv LC_*\n";

TEST(GateCheck, IsContentWithWhatIsRequired) {
  EXPECT_THAT(check_sshd_options(value_of(parse_sshd_options(kGoodSshd)), kSelf), IsEmpty());
}

TEST(GateCheck, SaysEachThingThatIsWrong) {
  const struct {
    const char *good, *bad, *line;
  } cases[] = {
      {"authorizedkeysfile none", "authorizedkeysfile .ssh/authorized_keys", "AuthorizedKeysFile none"},
      {"authorizedkeyscommand none", "authorizedkeyscommand /bin/keys", "AuthorizedKeysCommand none"},
      {"authorizedprincipalsfile none", "authorizedprincipalsfile /p", "AuthorizedPrincipalsFile none"},
      {"exposeauthinfo yes", "exposeauthinfo no", "ExposeAuthInfo yes"},
      {"disableforwarding yes", "disableforwarding no", "DisableForwarding yes"},
      {"permittunnel no", "permittunnel yes", "PermitTunnel no"},
      {"permituserrc no", "permituserrc yes", "PermitUserRC no"},
      {"permituserenvironment no", "permituserenvironment LANG", "PermitUserEnvironment no"},
      {"forcecommand none", "forcecommand /bin/date", "ForceCommand none"},
      {"pubkeyauthentication yes", "pubkeyauthentication no", "PubkeyAuthentication yes"},
      {"passwordauthentication no", "passwordauthentication yes", "PasswordAuthentication no"},
      {"kbdinteractiveauthentication no", "kbdinteractiveauthentication yes",
       "KbdInteractiveAuthentication no"},
      {"hostbasedauthentication no", "hostbasedauthentication yes", "HostbasedAuthentication no"},
      {"gssapiauthentication no", "gssapiauthentication yes", "GSSAPIAuthentication no"},
      {"permitemptypasswords no", "permitemptypasswords yes", "PermitEmptyPasswords no"},
      {"authenticationmethods publickey", "authenticationmethods password",
       "AuthenticationMethods publickey"},
      {"trustedusercakeys /etc/ssh/sallyport_ca.pub", "trustedusercakeys none", "TrustedUserCAKeys FILE"},
      {" principals %u %k", " principals %k %u", "AuthorizedPrincipalsCommand "},
      {" principals %u %k", " principals %u", "AuthorizedPrincipalsCommand "},
      {" principals %u %k", " principals --socket /tmp/s %u %k", "AuthorizedPrincipalsCommand "},
      {"authorizedprincipalscommand /", "authorizedprincipalscommand /bin/true principals %u %k /",
       "AuthorizedPrincipalsCommand "},
      {"authorizedprincipalscommanduser nobody", "authorizedprincipalscommanduser root",
       "AuthorizedPrincipalsCommandUser nobody"},
      {"acceptenv LANG", "acceptenv LANG LD_*", "LD_*"},
      {"acceptenv LANG", "acceptenv *", "\"*\""},
      {"setenv LC_TIME=C", "setenv LD_PRELOAD=/tmp/x.so", "\"LD_PRELOAD\""},
      {"setenv LC_TIME=C", "setenv SALLYPORT_GATE_SOCKET=/s", "SetEnv "},
      {"ssh-ed25519,ecdsa-sha2-nistp256\n", "ssh-ed25519\n", "CASignatureAlgorithms "},
      {"ssh-ed25519,ecdsa-sha2-nistp256-cert-v01@openssh.com", "ssh-ed25519", "PubkeyAcceptedAlgorithms "},
      {"hostkeyalgorithms ecdsa-sha2-nistp256,", "hostkeyalgorithms ", "HostKeyAlgorithms "},
  };
  for (const auto& one : cases) {
    std::string text = kGoodSshd;
    ASSERT_NE(text.find(one.good), text.npos) << one.good;
    text.replace(text.find(one.good), std::string_view{one.good}.size(), one.bad);
    const auto wrong = check_sshd_options(value_of(parse_sshd_options(text)), kSelf);
    ASSERT_EQ(wrong.size(), 1u) << one.bad;
    EXPECT_THAT(wrong[0], HasSubstr(one.line)) << one.bad;
  }
  // An option that is not there at all is not well set either.
  EXPECT_GT(check_sshd_options(value_of(parse_sshd_options("port 22\n")), kSelf).size(), 15u);
  EXPECT_THAT(parse_sshd_options(""), FailsWith(Code::kMalformed));
}

class GateCheckFiles : public ::testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, const std::string& text) {
    std::ofstream{directory_ / name} << text;
    return directory_ / name;
  }
  test::TemporaryDirectory directory_;
};

// Debian's /etc/pam.d/sshd has it, on a line of its own kind.
TEST_F(GateCheckFiles, FindsPamsFileOfTheUser) {
  const auto wrong = [&](const std::string& text) {
    write("sshd", text);
    return check_pam(directory_.path(), "sshd");
  };
  write("common", "session required pam_unix.so\n");
  write("lever", "session [default=1 success=ok] /lib/security/pam_env.so readenv=1 user_readenv=1\n");
  for (const char* good : {"session required pam_env.so\n", "# session required pam_env.so user_readenv=1\n",
                           "session required pam_env.so user_readenv=0\n@include common\n",
                           "session required pam_env.so # user_readenv=1\n", "session include common\n"})
    EXPECT_THAT(wrong(good), IsEmpty()) << good;
  for (const char* bad :
       {"session required pam_env.so user_readenv=1 envfile=/etc/default/locale\n",
        "-session\trequired\tpam_env.so\tuser_readenv=1\n",
        "session required pam_env.so \\\n  user_readenv=2\n", "@include lever\n", "session include lever\n",
        "session substack lever\n", "@include common\n@include lever"})
    EXPECT_THAT(wrong(bad), ElementsAre(HasSubstr("pam_env.so without user_readenv="))) << bad;
  // What cannot be read is not known to be well; nor does a file that includes itself go on for ever.
  EXPECT_THAT(wrong("@include absent\n"), ElementsAre(HasSubstr("cannot be read")));
  EXPECT_THAT(wrong("@include sshd\n"), ElementsAre(HasSubstr("cannot be read")));
  std::filesystem::remove(directory_ / "sshd");
  write("other", "@include lever\n");  // PAM's own way out
  EXPECT_THAT(check_pam(directory_.path(), "sshd"), ElementsAre(HasSubstr("lever")));
}

TEST_F(GateCheckFiles, IsContentWithThePamServiceThatWeShip) {
  std::filesystem::copy_file("client/target/sshd.pam", directory_ / "sshd");
  for (const char* name : {"common-account", "common-session"}) write(name, "");
  EXPECT_THAT(check_pam(directory_.path(), "sshd"), IsEmpty());
}

TEST_F(GateCheckFiles, KnowsWhichPamServiceSshdUses) {
  EXPECT_EQ(find_pam_service({{"usepam", {"yes"}}}), "sshd");
  EXPECT_EQ(find_pam_service({{"usepam", {"yes"}}, {"pamservicename", {"gate"}}}), "gate");
  EXPECT_EQ(find_pam_service({{"usepam", {"no"}}}), std::nullopt);
}

TEST_F(GateCheckFiles, FindsMatchBlocksThatNoAccountShows) {
  const auto inner =
      write("inner.conf", "match Address 10.0.0.0/8 User dbadmin\n  PasswordAuthentication yes\n");
  const auto outer = write("outer", "Match User dbadmin\nMatch all\nMatch Group=x\nInclude " +
                                        (directory_ / "*.conf").string() + "\n");
  EXPECT_THAT(check_match_blocks(outer), ElementsAre(HasSubstr("\"Address\"")));
  EXPECT_THAT(check_match_blocks(write("port", "\tMatch LocalPort 23\n")),
              ElementsAre(HasSubstr("LocalPort")));
  EXPECT_THAT(check_match_blocks(write("good", "# Match Host x\nPort 22\n")), IsEmpty());
  EXPECT_THAT(check_match_blocks(directory_ / "absent"), ElementsAre(HasSubstr("cannot be read")));
}

TEST(GateThinClient, FindsTheCertificateOfALogin) {
  const std::string type{credentials::kSshCertificateType};
  EXPECT_EQ(value_of(parse_user_auth("publickey " + type + " AQID\n")), (Bytes{1, 2, 3}));
  for (const std::string& text : std::vector<std::string>{
           "", "publickey ssh-ed25519 AQID\n", "publickey " + type + " AQI\n", "password\n",
           "publickey " + type + " AQID\npassword\n", "publickey " + type + " AQID AQID\n"})
    EXPECT_THAT(parse_user_auth(text), FailsWith(Code::kMalformed)) << text;
}

TEST(GateThinClient, TakesTheAddressOfTheConnection) {
  EXPECT_EQ(parse_peer_address("10.20.4.17 50000 10.20.0.7 22"), "10.20.4.17");
  EXPECT_EQ(parse_peer_address(""), "");
  EXPECT_EQ(parse_peer_address(std::string(65, '1') + " 22"), "");
}

TEST(GateSession, TellsWhyItEnded) {
  ByteArray<16> bytes{};
  bytes[0] = 0x7f, bytes[1] = 0x3a, bytes[2] = 0x90, bytes[3] = 0xbe;
  const CaseId case_id{bytes};
  const UnixMillis begin{1'790'000'000'000}, end{1'790'000'900'000};
  EXPECT_EQ(why_text(case_id, record::WhyClosed::kDeadline, end, begin, end),
            "session c-7f3a90be ended 14:28:20Z: its 15 minutes are over");
  EXPECT_THAT(why_text(case_id, record::WhyClosed::kDeadline, end, begin, UnixMillis{begin.get() + 60'000}),
              HasSubstr("its 1 minute is over"));
  EXPECT_THAT(why_text(case_id, record::WhyClosed::kDeadline, end, begin, UnixMillis{begin.get() + 90'000}),
              HasSubstr("its 90 seconds are over"));
  EXPECT_THAT(why_text(case_id, record::WhyClosed::kRevoked, end, begin, end), HasSubstr("revoked"));
  EXPECT_THAT(why_text(case_id, record::WhyClosed::kBehind, end, begin, end), HasSubstr("150 seconds"));
}

TEST(GateSession, GivesItsShellACleanEnvironment) {
  KeeperOrder order;
  order.account = "dbadmin";
  order.shell = "/bin/bash";
  order.case_hex = "7f3a";
  EXPECT_THAT(environment_of(order, "/home/dbadmin"),
              ElementsAre("HOME=/home/dbadmin", "USER=dbadmin", "LOGNAME=dbadmin", "SHELL=/bin/bash",
                          "PATH=/usr/local/bin:/usr/bin:/bin", "SALLYPORT_CASE=7f3a"));
  order.command = "id";
  order.term = "xterm";
  EXPECT_THAT(environment_of(order, "/"), ::testing::Contains("TERM=xterm"));
  EXPECT_THAT(environment_of(order, "/"), ::testing::Contains("SHLVL=1"));
}

TEST(GateProcesses, TakesOnlyChildrenOfSshdForLogins) {
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  const auto facts = find_process(getpid());
  ASSERT_TRUE(facts.has_value());
  EXPECT_EQ(facts->uid, getuid());
  EXPECT_EQ(facts->executable, self);
  // Our own parent is no sshd; and nobody is the parent of a process that is not there.
  EXPECT_THAT(SshdConnection::find(getpid(), getuid(), {"/usr/sbin/sshd"}), FailsWith(Code::kDenied));
  EXPECT_THAT(SshdConnection::find(getpid(), getuid() + 1, {"/usr/sbin/sshd"}), FailsWith(Code::kDenied));
  EXPECT_THAT(SshdConnection::find(0x3FFFFFFF, getuid(), {"/usr/sbin/sshd"}), FailsWith(Code::kDenied));
}

}  // namespace
}  // namespace sallyport::gate
