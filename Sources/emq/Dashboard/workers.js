// Placeholder.

import { Page } from "./page.js";

export class Workers extends Page {}
