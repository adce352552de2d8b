//! Reading genesis.json.
//!
//! alloy-genesis holds this format too, but is narrower than the clients together: it refuses unknown
//! fields in an account (geth ignores them), storage words with an odd number of digits, and balances that
//! are JSON numbers above 2^64; and its errors do not say which account they are about. So the shapes are
//! read here. Raw JSON values are kept until their meaning is known: numbers keep all their digits that
//! way, and each value's place in the text gives the line for the error.

use std::{borrow::Cow, collections::BTreeMap, fmt, io::Read, marker::PhantomData, path::Path};

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes, U256};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Genesis, GenesisAccount};
use crate::{Error, chain, quantity};

/// The largest genesis file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

impl Genesis {
    /// Reads a file. Errors name line and field.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { action: "read", path: path.to_owned(), source };
        // Not by the length that the system tells: a device or a pipe has none.
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(io)?;
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            let reason = format!("more than {MAX_FILE_BYTES} bytes, which is the most that is read");
            return Err(Error::Genesis { line: 1, field: "file".into(), reason });
        }
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            Error::Genesis { line, field: "file".into(), reason: "not UTF-8 text".into() }
        })?;
        Self::parse(text)
    }

    /// Reads the text of a genesis.json: `alloc`, and `config` if it is there; other fields are ignored.
    ///
    /// Addresses, code, and slots and their values are hexadecimal with or without `0x`, slots and values
    /// also shorter than 32 bytes; balance and nonce are hexadecimal or decimal, in strings or as JSON
    /// numbers. An address or a slot that comes twice is an error, and so is an account in which none of
    /// `balance`, `nonce`, `code` and `storage` is present.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let source = Text(text);
        let top: Top<'_> = source.json(text, "file")?;
        let Some(alloc) = top.alloc.filter(|raw| raw.get() != "null") else {
            return Err(source.error(text, "alloc".into(), "missing: there is no state to build".into()));
        };
        let mut accounts = BTreeMap::new();
        for (key, raw) in source.json::<Fields<'_>>(alloc.get(), "alloc")?.0 {
            let account = source.account(&key, raw)?;
            let address = account.address;
            if accounts.insert(address, account).is_some() {
                return Err(source.error(
                    raw.get(),
                    format!("alloc.{address}"),
                    "the address comes twice".into(),
                ));
            }
        }
        let stated_root = match top.state_root {
            Some(raw) => source.read(raw, "stateRoot", quantity::hash)?,
            None => None,
        };
        let header = source.header(&top)?;
        let accounts = accounts.into_values().collect();
        let mut genesis = Self { accounts, header, rules: None, stated_root };
        genesis.rules = match top.config.filter(|raw| raw.get() != "null") {
            Some(raw) => Some(source.rules(raw)?),
            None => chain::public_network(genesis.state_root()),
        };
        genesis.finish_header();
        Ok(genesis)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Top<'a> {
    #[serde(borrow)]
    alloc: Option<&'a RawValue>,
    #[serde(borrow)]
    config: Option<&'a RawValue>,
    #[serde(borrow)]
    state_root: Option<&'a RawValue>,
    #[serde(borrow)]
    nonce: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    extra_data: Option<&'a RawValue>,
    #[serde(borrow)]
    gas_limit: Option<&'a RawValue>,
    #[serde(borrow)]
    difficulty: Option<&'a RawValue>,
    #[serde(borrow)]
    mix_hash: Option<&'a RawValue>,
    #[serde(borrow)]
    coinbase: Option<&'a RawValue>,
    #[serde(borrow)]
    base_fee_per_gas: Option<&'a RawValue>,
    #[serde(borrow)]
    excess_blob_gas: Option<&'a RawValue>,
    #[serde(borrow)]
    blob_gas_used: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawAccount<'a> {
    #[serde(borrow)]
    balance: Option<&'a RawValue>,
    #[serde(borrow)]
    nonce: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    storage: Option<&'a RawValue>,
}

/// A JSON object as a list, so that a key that comes twice is seen.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Each<'a> {
            type Value = Fields<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Each(PhantomData))
    }
}

/// The whole file, to find lines in.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    /// An error about `part`, which is a slice of the file.
    fn error(&self, part: &str, field: String, reason: String) -> Error {
        Error::Genesis { line: self.line_of(part), field, reason }
    }

    /// The line in the file, from 1, on which `part` starts.
    fn line_of(&self, part: &str) -> usize {
        // The address of a slice of the text tells its place; anything else falls to the last line.
        let offset = (part.as_ptr() as usize).saturating_sub(self.0.as_ptr() as usize);
        let before = self.0.as_bytes().get(..offset).unwrap_or(self.0.as_bytes());
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    /// Reads `part`, a slice of the file, as JSON.
    fn json<T: Deserialize<'a>>(&self, part: &'a str, field: &str) -> Result<T, Error> {
        serde_json::from_str(part).map_err(|error| {
            let line = self.line_of(part) + error.line().saturating_sub(1);
            // serde_json ends its message with a place, which is relative to the part.
            let message = error.to_string();
            let reason = message.split(" at line ").next().unwrap_or_default().to_owned();
            Error::Genesis { line, field: field.to_owned(), reason }
        })
    }

    /// Reads a string or a number with `parse`; `None` for `null`.
    fn read<T>(
        &self,
        raw: &'a RawValue,
        field: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Error> {
        let text = raw.get();
        let text: Cow<'_, str> = match text.bytes().next() {
            Some(b'n') => return Ok(None),
            Some(b'"') => Cow::Owned(self.json::<String>(text, field)?),
            Some(b'0'..=b'9') if text.bytes().all(|byte| byte.is_ascii_digit()) => Cow::Borrowed(text),
            _ => {
                let reason = format!("{} is neither a string nor a whole number", brief(text));
                return Err(self.error(text, field.into(), reason));
            }
        };
        parse(&text).map(Some).map_err(|reason| self.error(raw.get(), field.into(), reason))
    }

    /// What the file says of the header; what it does not say is zero or empty.
    fn header(&self, top: &Top<'a>) -> Result<Header, Error> {
        let number = |raw: Option<&'a RawValue>, field: &str| match raw {
            Some(raw) => self.read(raw, field, number_u64),
            None => Ok(None),
        };
        let mut header = Header {
            nonce: number(top.nonce, "nonce")?.unwrap_or_default().to_be_bytes().into(),
            timestamp: number(top.timestamp, "timestamp")?.unwrap_or_default(),
            gas_limit: number(top.gas_limit, "gasLimit")?.unwrap_or_default(),
            base_fee_per_gas: number(top.base_fee_per_gas, "baseFeePerGas")?,
            excess_blob_gas: number(top.excess_blob_gas, "excessBlobGas")?,
            blob_gas_used: number(top.blob_gas_used, "blobGasUsed")?,
            ..Header::default()
        };
        if let Some(raw) = top.difficulty {
            header.difficulty = self.read(raw, "difficulty", quantity::number)?.unwrap_or_default();
        }
        if let Some(raw) = top.extra_data {
            header.extra_data = self.read(raw, "extraData", quantity::bytes)?.unwrap_or_default();
        }
        if let Some(raw) = top.mix_hash {
            header.mix_hash = self.read(raw, "mixHash", quantity::hash)?.unwrap_or_default();
        }
        if let Some(raw) = top.coinbase {
            header.beneficiary = self.read(raw, "coinbase", quantity::address)?.unwrap_or_default();
        }
        Ok(header)
    }

    fn account(&self, key: &str, raw: &'a RawValue) -> Result<GenesisAccount, Error> {
        let address = quantity::address(key).map_err(|reason| {
            self.error(raw.get(), format!("alloc.{}", brief(key)), format!("not an address: {reason}"))
        })?;
        let field = |name: &str| format!("alloc.{address}.{name}");
        let fields: RawAccount<'_> = self.json(raw.get(), &format!("alloc.{address}"))?;
        if fields.balance.or(fields.nonce).or(fields.code).or(fields.storage).is_none() {
            let reason = "an account without balance, nonce, code and storage".to_owned();
            return Err(self.error(raw.get(), format!("alloc.{address}"), reason));
        }
        let mut account = GenesisAccount { address, ..Default::default() };
        if let Some(raw) = fields.balance {
            account.balance = self.read(raw, &field("balance"), quantity::number)?.unwrap_or_default();
        }
        if let Some(raw) = fields.nonce {
            account.nonce = self.read(raw, &field("nonce"), number_u64)?.unwrap_or_default();
        }
        if let Some(raw) = fields.code {
            account.code = self.read(raw, &field("code"), quantity::bytes)?.unwrap_or(Bytes::new());
        }
        if let Some(raw) = fields.storage.filter(|raw| raw.get() != "null") {
            account.storage = self.storage(address, raw)?;
        }
        Ok(account)
    }

    fn storage(&self, address: Address, raw: &'a RawValue) -> Result<Vec<(B256, U256)>, Error> {
        let field = format!("alloc.{address}.storage");
        let mut slots = BTreeMap::new();
        for (key, raw) in self.json::<Fields<'_>>(raw.get(), &field)?.0 {
            let at = |reason| self.error(raw.get(), format!("{field}.{}", brief(&key)), reason);
            let slot = quantity::word(&key).map_err(|reason| at(format!("not a slot: {reason}")))?;
            let name = format!("{field}.{slot}");
            // As in geth, a string is hexadecimal here even without 0x; a JSON number is decimal.
            let text = raw.get().starts_with('"');
            let parse = |word: &str| match text {
                true => quantity::word(word).map(|word| word.into()),
                false => quantity::number(word),
            };
            let value = self.read(raw, &name, parse)?.unwrap_or_default();
            if slots.insert(slot, value).is_some() {
                return Err(self.error(raw.get(), name, "the slot comes twice".into()));
            }
        }
        Ok(slots.into_iter().filter(|(_, value)| !value.is_zero()).collect())
    }

    fn rules(&self, raw: &'a RawValue) -> Result<chain::Rules, Error> {
        let config = Config { text: self, fields: self.json::<Fields<'_>>(raw.get(), "config")?.0 };
        let forks = chain::Forks {
            homestead: config.number("homesteadBlock")?,
            tangerine: config.number("eip150Block")?,
            spurious: config.number("eip158Block")?.or(config.number("eip155Block")?),
            byzantium: config.number("byzantiumBlock")?,
            constantinople: config.number("constantinopleBlock")?,
            // As in geth: a configuration from before Petersburg means that it came with Constantinople.
            petersburg: config.number("petersburgBlock")?.or(config.number("constantinopleBlock")?),
            istanbul: config.number("istanbulBlock")?,
            berlin: config.number("berlinBlock")?,
            london: config.number("londonBlock")?,
            shanghai: config.number("shanghaiTime")?,
            cancun: config.number("cancunTime")?,
            prague: config.number("pragueTime")?,
            osaka: config.number("osakaTime")?,
            amsterdam: config.number("amsterdamTime")?,
        };
        let dao = config.number("daoForkBlock")?;
        let supported = match config.get("daoForkSupport") {
            Some(raw) => self.json::<bool>(raw.get(), "config.daoForkSupport")?,
            None => false,
        };
        let deposits = |text: &str| quantity::address(text);
        let deposit_contract = match config.get("depositContractAddress") {
            Some(raw) => self.read(raw, "config.depositContractAddress", deposits)?,
            None => None,
        };
        Ok(chain::Rules {
            chain_id: config.number("chainId")?,
            sealing: match config.get("clique") {
                Some(_) => chain::Sealing::Authority,
                None => chain::Sealing::Work,
            },
            forks,
            dao_fork: dao.filter(|_| supported),
            deposit_contract,
            blobs: config.blobs()?,
        })
    }
}

/// Entries of `blobSchedule`, in the order of time.
const BLOB_FORKS: [&str; 8] = ["cancun", "prague", "osaka", "bpo1", "bpo2", "bpo3", "bpo4", "bpo5"];

/// The fields of `config`.
struct Config<'t, 'a> {
    text: &'t Text<'a>,
    fields: Vec<(String, &'a RawValue)>,
}

impl<'a> Config<'_, 'a> {
    /// A field that is there and not null.
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        let found = self.fields.iter().find(|(key, _)| key == name)?.1;
        (found.get() != "null").then_some(found)
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        match self.get(name) {
            Some(raw) => self.text.read(raw, &format!("config.{name}"), number_u64),
            None => Ok(None),
        }
    }

    /// `blobSchedule`: an entry `x` holds from the time `xTime` on.
    fn blobs(&self) -> Result<Vec<chain::BlobSchedule>, Error> {
        let Some(raw) = self.get("blobSchedule") else { return Ok(Vec::new()) };
        let mut schedule = Vec::new();
        for (name, raw) in self.text.json::<Fields<'_>>(raw.get(), "config.blobSchedule")?.0 {
            let Some(from) = self.number(&format!("{name}Time"))? else { continue };
            let field = format!("config.blobSchedule.{}", brief(&name));
            let entry: RawBlobs<'_> = self.text.json(raw.get(), &field)?;
            let number = |raw: &'a RawValue, part: &str| {
                let value = self.text.read(raw, &format!("{field}.{part}"), number_u64)?;
                value.ok_or_else(|| self.text.error(raw.get(), format!("{field}.{part}"), "missing".into()))
            };
            let params = chain::BlobSchedule {
                from,
                target: number(entry.target, "target")?,
                max: number(entry.max, "max")?,
                update_fraction: number(entry.base_fee_update_fraction, "baseFeeUpdateFraction")?,
            };
            // Several may begin at once, as on a network that begins with a late fork: the latest one counts.
            schedule.push((from, BLOB_FORKS.iter().position(|fork| *fork == name), params));
        }
        schedule.sort_by_key(|(from, rank, _)| (*from, *rank));
        Ok(schedule.into_iter().map(|(.., params)| params).collect())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBlobs<'a> {
    #[serde(borrow)]
    target: &'a RawValue,
    #[serde(borrow)]
    max: &'a RawValue,
    #[serde(borrow)]
    base_fee_update_fraction: &'a RawValue,
}

fn number_u64(text: &str) -> Result<u64, String> {
    quantity::number(text)?.try_into().map_err(|_| format!("{text} exceeds 2^64 - 1"))
}

/// The start of a text for a message.
fn brief(text: &str) -> String {
    let mut brief: String = text.chars().take(48).collect();
    if brief.len() < text.len() {
        brief.push('…');
    }
    brief
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> String {
        format!("{:040x}", last)
    }

    fn one(account: &str) -> Result<GenesisAccount, Error> {
        let text = format!(r#"{{"alloc": {{"{}": {account}}}}}"#, address(1));
        Genesis::parse(&text).map(|mut genesis| genesis.accounts.remove(0))
    }

    #[test]
    fn balances_and_nonces_come_in_all_shapes() {
        let ether = U256::from(10u64).pow(U256::from(21));
        for balance in [
            "\"0x3635c9adc5dea00000\"",
            "\"3635c9adc5dea00000\"",
            "\"1000000000000000000000\"",
            "1000000000000000000000",
        ] {
            assert_eq!(one(&format!(r#"{{"balance": {balance}}}"#)).unwrap().balance, ether, "{balance}");
        }
        for nonce in ["\"0x10\"", "\"16\"", "16"] {
            let account =
                one(&format!(r#"{{"balance": "0x0", "nonce": {nonce}, "extra": [1, 2]}}"#)).unwrap();
            assert_eq!(account.nonce, 16, "{nonce}");
        }
    }

    #[test]
    fn storage_words_may_be_short_and_zeros_are_dropped() {
        let account = one(r#"{"balance": "0", "code": "6001", "storage": {"0x1": "0x2", "0002": "0x0",
                "0x0000000000000000000000000000000000000000000000000000000000000000": "ff", "3": 10}}"#)
        .unwrap();
        let slot = B256::with_last_byte;
        let value = U256::from::<u64>;
        assert_eq!(account.storage, [(slot(0), value(255)), (slot(1), value(2)), (slot(3), value(10))]);
        assert_eq!(account.code.as_ref(), [0x60, 1]);
    }

    #[test]
    fn addresses_are_read_with_and_without_prefix_and_sorted() {
        let text = format!(
            r#"{{"alloc": {{"0x{}": {{"balance": "1"}}, "{}": {{"balance": "2"}}}}, "nonce": "0x0"}}"#,
            address(0xAB).to_uppercase(),
            address(2)
        );
        let genesis = Genesis::parse(&text).unwrap();
        assert_eq!(genesis.accounts.len(), 2);
        assert_eq!(genesis.accounts[0].address, Address::with_last_byte(2));
        assert_eq!(genesis.rules, None);
    }

    #[test]
    fn errors_name_line_and_field() {
        let a = address(1);
        let wrong = [
            (format!("{{\n\"alloc\": {{\n\"{a}\": {{\n\"balance\": \"0xzz\"}}}}}}"), 4, "balance"),
            (format!("{{\n\"alloc\": {{\n\"{a}\": {{\"balance\": -1}}}}}}"), 3, "balance"),
            (format!("{{\"alloc\": {{\n\"{a}\": {{\"balance\": 1e3}}}}}}"), 2, "balance"),
            (format!("{{\"alloc\": {{\n\"{a}\": {{\"balance\": true}}}}}}"), 2, "balance"),
            (
                format!(
                    "{{\"alloc\": {{\n\n\"{a}\": {{\"balance\": \"1\", \"nonce\": \"0x1ffffffffffffffff\"}}}}}}"
                ),
                3,
                "nonce",
            ),
            (format!("{{\"alloc\": {{\n\"{a}\": {{\"balance\": \"1\", \"code\": \"0x1\"}}}}}}"), 2, "code"),
            (
                format!("{{\"alloc\": {{\n\"{a}\": {{\"storage\": {{\"0x1\": \"0x1\",\n\"1\": \"2\"}}}}}}}}"),
                3,
                "storage",
            ),
            (format!("{{\"alloc\": {{\n\"{a}\": {{\"storage\": [1]}}}}}}"), 2, "storage"),
            (format!("{{\"alloc\": {{\n\"{a}\": {{}}}}}}"), 2, &a),
            (format!("{{\"alloc\": {{\n\"{a}\": 7}}}}"), 2, &a),
            (
                format!("{{\"alloc\": {{\"{a}\": {{\"balance\": 1}},\n\"0x{a}\": {{\"balance\": 1}}}}}}"),
                2,
                &a,
            ),
            ("{\"alloc\": {\n\"0x12\": {\"balance\": 1}}}".to_owned(), 2, "0x12"),
            ("{\n\"alloc\": {\n\"".to_owned(), 3, "file"),
            ("{}".to_owned(), 1, "alloc"),
            ("".to_owned(), 1, "file"),
            ("[1]".to_owned(), 1, "file"),
            ("{\"alloc\": {}, \"alloc\": {}}".to_owned(), 1, "file"),
            ("{\"alloc\": {}} x".to_owned(), 1, "file"),
            ("{\"alloc\": [],\n \"config\": {}}".to_owned(), 1, "alloc"),
            ("{\"alloc\": {},\n \"config\": {\"chainId\": \"x\"}}".to_owned(), 2, "chainId"),
        ];
        for (text, at, name) in wrong {
            match Genesis::parse(&text) {
                Err(Error::Genesis { line, field, .. }) => {
                    assert!(line == at && field.contains(name), "{text}: {line} {field}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn rules_are_read_from_the_config() {
        let text = r#"{"alloc": {}, "config": {"chainId": "0x7", "byzantiumBlock": 5, "constantinopleBlock": null,
            "daoForkBlock": 3, "daoForkSupport": true, "londonBlock": 12, "clique": {"period": 15}}}"#;
        let rules = Genesis::parse(text).unwrap().rules.unwrap();
        assert_eq!(rules.chain_id, Some(7));
        let forks = rules.forks;
        assert_eq!((forks.byzantium, forks.constantinople, rules.dao_fork), (Some(5), None, Some(3)));
        assert_eq!((forks.london, forks.petersburg, forks.cancun), (Some(12), None, None));
        assert_eq!(rules.sealing, chain::Sealing::Authority);
        let text = r#"{"alloc": {}, "config": {"cancunTime": 60, "pragueTime": "0x78", "bpo1Time": null,
            "depositContractAddress": "0x00000000219ab540356cBB839Cbe05303d7705Fa", "blobSchedule": {
            "prague": {"target": 6, "max": 9, "baseFeeUpdateFraction": 5007716},
            "cancun": {"target": 3, "max": 6, "baseFeeUpdateFraction": 3338477},
            "bpo1": {"target": 10, "max": 15, "baseFeeUpdateFraction": 1}}}}"#;
        let rules = Genesis::parse(text).unwrap().rules.unwrap();
        assert!(rules.deposit_contract.is_some());
        let blobs = rules.blobs.iter().map(|entry| (entry.from, entry.max, entry.update_fraction));
        assert_eq!(blobs.collect::<Vec<_>>(), [(60, 6, 3_338_477), (120, 9, 5_007_716)]);
        assert_eq!([59, 60, 120].map(|time| rules.blob_params(time).max_blob_count), [6, 6, 9]);
    }
}
