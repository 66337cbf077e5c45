//! OpenSSL as whoever signs, for tests: keys, certificates and signatures made while they run.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Keys and certificates of one test, each by its name.
pub(crate) struct OpenSsl(tempfile::TempDir);

impl OpenSsl {
    /// `None`, and says so, where there is no openssl.
    pub(crate) fn for_test(test: &str) -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_ok() {
            return Some(Self(tempfile::tempdir().unwrap()));
        }
        let line = format!("not run: {test} (needs openssl)\n");
        if let Some(file) = std::env::var_os("ROUNDEL_NOT_RUN") {
            let mut file = fs::File::options().create(true).append(true).open(file).unwrap();
            file.write_all(line.as_bytes()).unwrap();
        }
        None
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &str, more: &[&str]) {
        let mut command = Command::new("openssl");
        command.current_dir(self.0.path()).args(arguments.split(' ')).args(more);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A key `NAME.key` and a certificate `NAME.pem` that it signs itself.
    pub(crate) fn itself(&self, name: &str) -> PathBuf {
        let files = format!("-subj /CN={name} -keyout {name}.key -out {name}.pem");
        self.run(&format!("req -x509 -nodes -newkey rsa:2048 -days 9 {files}"), &[]);
        self.path(&format!("{name}.pem"))
    }

    /// The same, good from and until these moments, `20260921000000Z`.
    pub(crate) fn dated(&self, name: &str, from: &str, until: &str) -> PathBuf {
        fs::write(self.path(&format!("{name}.index")), "").unwrap();
        let ours = format!(
            "[ca]\ndefault_ca=own\n[own]\ndatabase={name}.index\nnew_certs_dir=.\nrand_serial=yes\n\
             default_md=sha256\npolicy=any\n[any]\ncommonName=supplied\n"
        );
        fs::write(self.path("own.cnf"), ours).unwrap();
        let files = format!("-subj /CN={name} -keyout {name}.key -out {name}.csr");
        self.run(&format!("req -new -nodes -newkey rsa:2048 {files}"), &[]);
        let files = format!("-keyfile {name}.key -in {name}.csr -out {name}.pem");
        let dates = format!("-startdate {from} -enddate {until}");
        self.run(&format!("ca -config own.cnf -batch -notext -selfsign {files} {dates}"), &[]);
        self.path(&format!("{name}.pem"))
    }

    /// A key and a certificate for a DNS name, signed by `by`.
    pub(crate) fn issued(&self, name: &str, dns: &str, by: &str) -> PathBuf {
        let extension = format!("subjectAltName=DNS:{dns}\nextendedKeyUsage=serverAuth\n");
        fs::write(self.path("ext"), extension).unwrap();
        let files = format!("-subj /CN={dns} -keyout {name}.key -out {name}.csr");
        self.run(&format!("req -nodes -newkey rsa:2048 {files}"), &[]);
        let files = format!("-in {name}.csr -extfile ext -CA {by}.pem -CAkey {by}.key");
        self.run(&format!("x509 -req -days 9 {files} -CAcreateserial -out {name}.pem"), &[]);
        self.path(&format!("{name}.pem"))
    }

    /// Signed data around `content`, in lines of base64 as clouds give it.
    pub(crate) fn signed_data(&self, name: &str, content: &Value, more: &[&str]) -> String {
        fs::write(self.path("content"), content.to_string()).unwrap();
        let files = format!("-in content -out signed -signer {name}.pem -inkey {name}.key");
        self.run(&format!("cms -sign -binary -nodetach -outform DER {files}"), more);
        let text = STANDARD.encode(fs::read(self.path("signed")).unwrap());
        let lines = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap());
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The signature of a message, by `dgst -sha256` or another.
    pub(crate) fn signature(&self, name: &str, hash: &str, message: &[u8]) -> Vec<u8> {
        fs::write(self.path("message"), message).unwrap();
        self.run(&format!("dgst {hash} -sign {name}.key -out signature message"), &[]);
        fs::read(self.path("signature")).unwrap()
    }

    /// A JWT of these claims, and the set of keys that it is signed by.
    pub(crate) fn jwt(&self, name: &str, claims: &Value) -> (String, Value) {
        let head = json!({"alg": "RS256", "kid": name, "typ": "JWT"});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&head), part(claims));
        let signature = self.signature(name, "-sha256", signed.as_bytes());
        (format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)), self.key_set(name))
    }

    fn key_set(&self, name: &str) -> Value {
        let mut command = Command::new("openssl");
        command.current_dir(self.0.path()).args(["rsa", "-noout", "-modulus", "-in"]);
        let shown = command.arg(format!("{name}.key")).output().unwrap().stdout;
        let digits = String::from_utf8(shown).unwrap().trim().replace("Modulus=", "");
        let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        let n: Vec<u8> = pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
        let key = json!({"kid": name, "kty": "RSA", "alg": "RS256", "e": "AQAB",
                         "n": URL_SAFE_NO_PAD.encode(n)});
        json!({"keys": [key]})
    }
}
