//! Images, read as plain answers: the library refuses a whole list for one image without a name.

use super::{Answer, Cloud, text};
use osauth::services::IMAGE;
use serde_json::Value;

/// One image.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    pub id: String,
    pub name: String,
    pub active: bool,
    /// MiB.
    pub min_ram: u64,
    /// GiB.
    pub min_disk: u64,
}

impl Cloud {
    pub(super) async fn read_images(&self) -> Answer<Vec<Image>> {
        let found = self.list(IMAGE, &["images"], "images", &[]).await?;
        let number = |image: &Value, key: &str| image.get(key).and_then(Value::as_u64).unwrap_or(0);
        Ok(found
            .iter()
            .map(|image| Image {
                id: text(image, "id"),
                name: text(image, "name"),
                active: text(image, "status") == "active",
                min_ram: number(image, "min_ram"),
                min_disk: number(image, "min_disk"),
            })
            .collect())
    }
}
