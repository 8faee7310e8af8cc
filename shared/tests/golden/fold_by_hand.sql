CREATE OR REPLACE TABLE `project`.`cdc`.`_strait_fold_by_hand`
OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 24 HOUR))
AS
WITH `read` AS (
SELECT `operation`, `position` AS `position`, `_strait_log`.`position` AS `log_position`, IF(`error` IS NULL, `data`, REGEXP_REPLACE(`data`, r'\\u[dD][89a-fA-F][0-9a-fA-F]{2}', r'\\uFFFD')) AS `data`, IF(`error` IS NULL, `before`, REGEXP_REPLACE(`before`, r'\\u[dD][89a-fA-F][0-9a-fA-F]{2}', r'\\uFFFD')) AS `before`, `error`, `kafka_topic`, `kafka_partition`, `kafka_offset`, `committed_at`, COALESCE(`emitted_at`, `ingested_at`) AS `sent`, `ingested_at`, TRUE AS `is_new`
FROM `project`.`cdc`.`log` AS `_strait_log`
WHERE TRUE AND `ingested_at` <= TIMESTAMP '2026-01-02 03:04:05.678901+00' AND TRUE
AND `source_schema` = 'shop' AND `source_table` = 'order'
AND `operation` IN ('load', 'insert', 'update', 'delete')
QUALIFY ROW_NUMBER() OVER (PARTITION BY `kafka_topic`, `kafka_partition`, `kafka_offset`, `_strait_log`.`position` ORDER BY `ingested_at`) = 1
),
`text` AS (
SELECT * EXCEPT (`before`), COALESCE(JSON_VALUE(`data`, '$."code"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."code"'), ''), 'null')) AS `v0`, IF(`before` IS NULL, COALESCE(JSON_VALUE(`data`, '$."BI_code"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."BI_code"'), ''), 'null')), COALESCE(JSON_VALUE(`before`, '$."code"'), NULLIF(CONCAT(JSON_QUERY(`before`, '$."code"'), ''), 'null'))) AS `b0`, COALESCE(JSON_VALUE(`data`, '$."doc"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."doc"'), ''), 'null')) AS `v1`, COALESCE(JSON_VALUE(`data`, '$."t"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."t"'), ''), 'null')) AS `v2`, COALESCE(JSON_VALUE(`data`, '$."price"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."price"'), ''), 'null')) AS `v3`, COALESCE(JSON_VALUE(`data`, '$."short"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."short"'), ''), 'null')) AS `v4`, COALESCE(JSON_VALUE(`data`, '$."bytes"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."bytes"'), ''), 'null')) AS `v5`, COALESCE(JSON_VALUE(`data`, '$."at"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."at"'), ''), 'null')) AS `v6`, IF(`is_new` AND `operation` <> 'delete', NULLIF((SELECT TO_JSON_STRING(ARRAY_AGG(`name` ORDER BY `name`)) FROM UNNEST(JSON_KEYS(SAFE.PARSE_JSON(`data`, wide_number_mode => 'round'), 1)) AS `name` WHERE `name` NOT IN ('"BI_code"', '"at"', '"bytes"', '"code"', '"doc"', '"price"', '"short"', '"t"', 'BI_code', 'at', 'bytes', 'code', 'doc', 'price', 'short', 't')), 'null'), NULL) AS `unknown_members`
FROM `read`
),
`split` AS (
SELECT `text`.*, `is_old_key`, `is_old_key` OR `operation` = 'delete' AS `deleted`, IF(`is_old_key`, COALESCE(`b0`, `v0`), `v0`) AS `t0`
FROM `text`, UNNEST(IF(`operation` = 'update' AND (COALESCE(`b0` <> `v0`, FALSE)), [FALSE, TRUE], [FALSE])) AS `is_old_key`
),
`typed` AS (
SELECT *,
`t0` AS `c0`,
SAFE.PARSE_JSON(`v1`) AS `c1`,
IF(REGEXP_CONTAINS(`v2`, r'^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6}0*)?Z?$'), SAFE_CAST(REGEXP_EXTRACT(`v2`, r'^[^.Z]+(?:\.[0-9]{1,6})?') AS TIME), NULL) AS `c2`,
CASE WHEN REGEXP_CONTAINS(`v3`, r'^-?0*[0-9]{0,8}(\.[0-9]{0,2}0*)?$') THEN SAFE_CAST(`v3` AS NUMERIC) WHEN REGEXP_CONTAINS(`v3`, r'^-?[0-9](\.[0-9]{1,14})?[eE]([+]?[0-9]{1,2}|-(1?[0-9]|20))$') AND ABS(SAFE_CAST(`v3` AS BIGNUMERIC)) < 100000000 AND ROUND(SAFE_CAST(`v3` AS BIGNUMERIC), 2) = SAFE_CAST(`v3` AS BIGNUMERIC) THEN SAFE_CAST(`v3` AS NUMERIC) END AS `c3`,
IF(CHAR_LENGTH(`v4`) <= 3, `v4`, NULL) AS `c4`,
IF(REGEXP_CONTAINS(`v5`, r'^(0x)?([0-9A-Fa-f][0-9A-Fa-f])*$') AND LENGTH(`v5`) - IF(STARTS_WITH(`v5`, '0x'), 2, 0) <= 32, SAFE.FROM_HEX(REGEXP_REPLACE(`v5`, r'^0x', '')), NULL) AS `c5`,
(SELECT IF(DATETIME(`moment`, 'Europe/Berlin') = `shown` AND NOT EXISTS (SELECT 1 FROM UNNEST([-180, -120, -60, -40, -30, -20, 20, 30, 40, 60, 120, 180]) AS `shift` WHERE DATETIME(TIMESTAMP_ADD(`moment`, INTERVAL `shift` MINUTE), 'Europe/Berlin') = `shown`), `moment`, NULL) FROM (SELECT `shown`, SAFE_CAST(CONCAT(CAST(`shown` AS STRING), ' Europe/Berlin') AS TIMESTAMP) AS `moment` FROM (SELECT IF(`day` BETWEEN DATETIME '0001-01-03 00:00:00' AND DATETIME '9999-12-29 00:00:00', `day`, NULL) AS `shown` FROM (SELECT IF(REGEXP_CONTAINS(`v6`, r'^([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-[0-9]{2}-[0-9]{2}([T ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6}0*)?Z?|Z)?$'), SAFE_CAST(REGEXP_EXTRACT(`v6`, r'^[^.Z]+(?:\.[0-9]{1,6})?') AS DATETIME), NULL) AS `day`)))) AS `c6`
FROM `split`
),
`checked` AS (
SELECT *, CASE WHEN `error` IS NOT NULL AND (`operation` <> 'delete' OR STARTS_WITH(`error`, 'the record has no schema')) THEN -1 WHEN `c0` IS NULL OR `is_old_key` AND (`v0`) IS NULL THEN 0 WHEN `v1` IS NOT NULL AND `c1` IS NULL AND `operation` <> 'delete' THEN 1 WHEN `v2` IS NOT NULL AND `c2` IS NULL AND `operation` <> 'delete' THEN 2 WHEN `v3` IS NOT NULL AND `c3` IS NULL AND `operation` <> 'delete' THEN 3 WHEN `v4` IS NOT NULL AND `c4` IS NULL AND `operation` <> 'delete' THEN 4 WHEN `v5` IS NOT NULL AND `c5` IS NULL AND `operation` <> 'delete' THEN 5 WHEN `v6` IS NOT NULL AND `c6` IS NULL AND `operation` <> 'delete' THEN 6 END AS `flaw`
FROM `typed`
),
`sent_in_turn` AS (
SELECT *, MAX(`position`) OVER (PARTITION BY `flaw` IS NULL, `c0` ORDER BY UNIX_MICROS(`sent`) RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS `earlier_position`, MAX(`committed_at`) OVER (PARTITION BY `flaw` IS NULL, `c0` ORDER BY UNIX_MICROS(`sent`) RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS `earlier_committed`
FROM `checked`
),
`ranked` AS (
SELECT *,
COUNTIF(`is_new` AND NOT `is_old_key`) OVER (PARTITION BY `flaw` IS NULL, `c0`) AS `key_records`,
MAX(IF(`is_new`, `position`, NULL)) OVER (PARTITION BY `flaw` IS NULL, `c0`) AS `key_newest`,
MIN(IF(`is_new`, `position`, NULL)) OVER (PARTITION BY `flaw` IS NULL, `c0`) AS `key_lowest_new`,
MAX(IF(`is_new`, NULL, `position`)) OVER (PARTITION BY `flaw` IS NULL, `c0`) AS `key_highest_old`,
MAX(`position`) OVER (PARTITION BY `flaw` IS NULL, `c0`) AS `key_position`,
MIN(`position`) OVER (PARTITION BY `flaw` IS NULL, `c0`) AS `key_lowest`,
MIN(IF(`operation` IN ('insert', 'load'), `position`, NULL)) OVER (PARTITION BY `flaw` IS NULL, `c0`) AS `key_added`,
MAX(IF(`is_new` AND NOT `is_old_key` AND `position` > '', `committed_at`, NULL)) OVER (PARTITION BY `flaw` IS NULL, `c0`) AS `raised_committed`,
MAX(IF(`is_new` AND NOT `is_old_key` AND `position` > '', `sent`, NULL)) OVER (PARTITION BY `flaw` IS NULL, `c0`) AS `raised_emitted`,
COUNTIF(`is_new` AND (`position` < `earlier_position` AND (REGEXP_CONTAINS(`position`, r'^[0-9]+-1-t') AND REGEXP_CONTAINS(`earlier_position`, r'^[0-9]+-2-') OR REGEXP_CONTAINS(`position`, r'^[0-9]+-2-m') AND UNIX_MICROS(`committed_at`) > UNIX_MICROS(`earlier_committed`) + 2000000 OR REGEXP_CONTAINS(`position`, r'^[0-9]+-2-p') AND UNIX_MICROS(`committed_at`) > UNIX_MICROS(`earlier_committed`) + 86400000000))) OVER (PARTITION BY `flaw` IS NULL, `c0`) AS `anew`,
MIN(IF(`is_new` AND (`position` < `earlier_position` AND (REGEXP_CONTAINS(`position`, r'^[0-9]+-1-t') AND REGEXP_CONTAINS(`earlier_position`, r'^[0-9]+-2-') OR REGEXP_CONTAINS(`position`, r'^[0-9]+-2-m') AND UNIX_MICROS(`committed_at`) > UNIX_MICROS(`earlier_committed`) + 2000000 OR REGEXP_CONTAINS(`position`, r'^[0-9]+-2-p') AND UNIX_MICROS(`committed_at`) > UNIX_MICROS(`earlier_committed`) + 86400000000)), `sent`, NULL)) OVER (PARTITION BY `flaw` IS NULL, `c0`) AS `anew_from`,
FALSE AS `key_beyond_log`,
FIRST_VALUE(`deleted`) OVER (PARTITION BY `flaw` IS NULL, `c0` ORDER BY `position` DESC, `deleted`, `kafka_offset` DESC ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS `key_deleted`
FROM `sent_in_turn`
WHERE TRUE
QUALIFY IF(`flaw` IS NULL, `key_newest` IS NOT NULL AND ROW_NUMBER() OVER (PARTITION BY `flaw` IS NULL, `c0` ORDER BY `deleted`, `position` DESC, `kafka_offset` DESC) = 1, `is_new` AND NOT `is_old_key`)
)
SELECT `c0`, `c1`, `c2`, `c3`, `c4`, `c5`, `c6`,
IF(`flaw` IS NULL, `key_position`, `log_position`) AS `position`, `key_deleted` AS `deleted`, NOT `deleted` AS `has_image`,
`key_added` = `key_lowest` AND NOT `key_deleted` AS `adds`, IF(`flaw` IS NULL, `key_records`, 1) AS `records`, `key_newest` AS `newest`,
`flaw` IS NULL AND COALESCE(`key_highest_old` >= `key_lowest_new`, FALSE) AS `late`,
`raised_committed`, `raised_emitted`, `anew`, `anew_from`, `flaw` IS NULL AND `key_beyond_log` AND NOT `key_deleted` AS `beyond_log`,
CASE `flaw` WHEN 0 THEN 'code' WHEN 1 THEN 'doc' WHEN 2 THEN 't' WHEN 3 THEN 'price' WHEN 4 THEN 'short' WHEN 5 THEN 'bytes' WHEN 6 THEN 'at' END AS `flaw_column`,
CASE WHEN `flaw` = -1 THEN `error` WHEN `flaw` = 0 AND `t0` IS NULL THEN 'the key column is missing or NULL' WHEN `flaw` = 0 THEN 'STRING cannot hold the value exactly' WHEN `flaw` = 1 THEN 'JSON cannot hold the value exactly' WHEN `flaw` = 2 THEN 'TIME cannot hold the value exactly' WHEN `flaw` = 3 THEN 'NUMERIC(10, 2) cannot hold the value exactly' WHEN `flaw` = 4 THEN 'STRING(3) cannot hold the value exactly' WHEN `flaw` = 5 THEN 'BYTES(16) cannot hold the value exactly' WHEN `flaw` = 6 THEN 'TIMESTAMP of Europe/Berlin cannot hold the value exactly' END AS `flaw_reason`,
CONCAT('{', '"code":', COALESCE(TO_JSON_STRING(`t0`), 'null'), '}') AS `key_text`,
`kafka_topic`, `kafka_partition`, `kafka_offset`, `ingested_at`, `unknown_members` AS `unknown`, CAST(NULL AS STRING) AS `unknown_too`
FROM `ranked`
