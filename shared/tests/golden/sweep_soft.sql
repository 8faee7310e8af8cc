UPDATE `project`.`replica`.`shop_order`
SET `_strait_deleted` = TRUE, `_strait_position` = '1767322000000000-0-00000000000000000000', `_strait_merged_at` = CURRENT_TIMESTAMP()
WHERE COALESCE(`_strait_position`, '') < '1767322000000000' AND IF(EXISTS (SELECT 1 FROM `project`.`cdc`.`merges` WHERE `source_schema` = 'shop' AND `source_table` = 'order' AND `recorded_at` > TIMESTAMP '2026-01-02 03:04:05.678901+00' AND `run_id` <> 'id/1'), ERROR('another run of the merge has taken this table up; the next run goes on from what is sure'), TRUE)
